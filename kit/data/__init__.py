"""Pictures: found, read, cropped and kept on disk (`prepare`), checked as they are opened (`dataset`), drawn in
batches (`packed`)."""
