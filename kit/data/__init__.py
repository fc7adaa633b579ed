"""Pictures: found (`sources`), read (`decoding`), cropped (`crops`), kept on disk (`prepare`, `prepared_set`), drawn in
batches (`batches`)."""
