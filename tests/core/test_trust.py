"""Code that is not the installed kit's runs only where the user trusts it, and sees no credentials."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from kit.core import provenance, trust
from kit.core.errors import KitError

MAIN = "kit/__main__.py"
SECRETS = {
    "KAGGLE_KEY": "k3y", "KAGGLE_API_TOKEN": "k3y", "KAGGLE_CONFIG_DIR": "/k3y", "HF_TOKEN": "k3y",
    "AWS_SECRET_ACCESS_KEY": "k3y", "AWS_ACCESS_KEY_ID": "k3y", "GITHUB_TOKEN": "k3y", "MY_PASSWORD": "k3y",
    "SSH_AUTH_SOCK": "/k3y", "OPENAI_API_KEY": "k3y", "HTTPS_PROXY": "http://me:k3y@proxy",
}  # fmt: skip


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def kit(main: str) -> dict[str, bytes]:
    return {"kit/__init__.py": b"", MAIN: main.encode()}


@pytest.mark.abuse("A1")
def test_other_code_sees_no_credentials(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)
    home = tmp_path / "home"
    (home / ".kaggle").mkdir(parents=True)
    (home / ".kaggle" / "kaggle.json").write_text("k3y")
    monkeypatch.setenv("HOME", str(home))
    program = """
        import json, os, pathlib, sys
        home = [str(path) for path in pathlib.Path.home().rglob('*')]
        print(json.dumps([dict(os.environ), home, sys.path, os.getcwd(), sys.argv[1:]]))
    """
    done = trust.run_kit(kit("\n".join(line.strip() for line in program.splitlines())), ["one"], where=tmp_path)
    assert done.returncode == 0
    assert "k3y" not in done.stdout
    assert "PATH" in done.stdout
    assert '["one"]' in done.stdout


@pytest.mark.abuse("A1")
def test_the_stored_kit_is_what_runs_and_the_folder_one_stands_in_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "kit").mkdir()
    (tmp_path / "kit" / "__init__.py").write_text("print('mine')")
    (tmp_path / "random.py").write_text("print('mine')")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", "")
    done = trust.run_kit(kit("import kit, random; print(kit.__file__)"), [], where=tmp_path)
    assert "kit-stored-" in done.stdout
    assert "mine" not in done.stdout


@pytest.mark.abuse("A1")
def test_no_other_file_is_unpacked(tmp_path: Path) -> None:
    for name in ("sitecustomize.py", "numpy.py", "../x.py", "/tmp/x.py"):
        with pytest.raises(KitError, match="no file of the kit"):
            trust.run_kit({**kit(""), name: b"raise SystemExit(9)"}, [], where=tmp_path)
    assert trust.run_kit({**kit(""), "setup.py": b"raise SystemExit(9)"}, [], where=tmp_path).returncode == 0


@pytest.mark.abuse("B9")
@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_it_ends_with_the_one_that_started_it_and_leaves_nothing(tmp_path: Path, number: signal.Signals) -> None:
    mark = tmp_path / "pid"
    sleeper = f"import os, pathlib, time; pathlib.Path({str(mark)!r}).write_text(str(os.getpid())); time.sleep(600)"
    program = (
        "from pathlib import Path; from kit.core import trust\n"
        f"trust.run_kit({kit(sleeper)!r}, [], where=Path('source.zip'))"
    )
    environment = {**os.environ, "TMPDIR": str(tmp_path / "scratch")}
    (tmp_path / "scratch").mkdir()
    process = subprocess.Popen([sys.executable, "-c", program], env=environment, stderr=subprocess.DEVNULL)
    try:
        while not (mark.exists() and mark.read_text()):
            assert process.poll() is None
            time.sleep(0.02)
        process.send_signal(number)
        process.wait()
    finally:
        process.kill()
    child = int(mark.read_text())
    with pytest.raises(ProcessLookupError):
        os.kill(child, 0)
    assert list((tmp_path / "scratch").iterdir()) == []


def test_it_is_the_kit_by_its_bytes() -> None:
    files = provenance.package_files()
    assert trust.is_installed_kit(provenance.tree_digest(files))
    assert not trust.is_installed_kit(provenance.tree_digest({**files, "kit/cli.py": b""}))


@pytest.mark.abuse("A3")
def test_other_code_is_named_with_its_digest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = digest("some code")
    monkeypatch.setenv("KAGGLE_KEY", "k3y")
    with pytest.raises(KitError, match=rf"run\.json: the model file of x is code .*{code[:12]}.*add --trust"):
        trust.require_trust("the model file of x", code, trust=False, where=tmp_path / "run.json")
    assert not trust.is_allowed(code)
    assert os.environ["KAGGLE_KEY"] == "k3y"
    trust.require_trust("the model file of x", code, trust=True, where=tmp_path / "run.json")
    assert not trust.is_allowed(code)  # to run it here, it has to be admitted
    trust.admit(code)
    assert "KAGGLE_KEY" not in os.environ
    trust.require_trust("the model file of x", code, trust=False, where=tmp_path / "other.json")  # it is known by now
