"""Generators on the Hugging Face hub: two files and a card, and nothing in them is executed."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

MAX_BYTES = 4 << 30
"""Limit of a download, as of others."""
FILES = ("config.json", "model.safetensors")
CARD = "README.md"


def download(repo: str, revision: str | None, token: str | None) -> Path:
    """Download the files of a generator into the hub's cache, all of one commit, and return their folder.

    Raises:
        ValueError: There is no such repository, it holds no generator, it is too large, or it cannot be reached.
    """
    hub = _library()
    with _errors_in_one_line(f"hub repository {repo[:200]!a}"):
        info = hub.HfApi(token=token).model_info(repo, revision=revision, files_metadata=True)
        sizes = {file.rfilename: file.size or 0 for file in info.siblings if file.rfilename in FILES}
        if missing := [name for name in FILES if name not in sizes]:
            raise ValueError(f"it holds no {' and no '.join(missing)}: it is not a generator of mscond")
        if sum(sizes.values()) > MAX_BYTES:
            raise ValueError(f"its files have {sum(sizes.values())} bytes, the limit is {MAX_BYTES}")
        return Path(hub.snapshot_download(repo, revision=info.sha, token=token, allow_patterns=list(FILES)))


def upload(folder: Path, repo: str, private: bool | None, token: str | None) -> str:
    """Upload the files of a generator and its card as one commit, and return the commit's URL.

    Raises:
        ValueError: The hub refuses, or cannot be reached.
    """
    api = _library().HfApi(token=token)
    with _errors_in_one_line(f"hub repository {repo[:200]!a}"):
        api.create_repo(repo, private=private, exist_ok=True)
        commit = api.upload_folder(
            repo_id=repo,
            folder_path=folder,
            allow_patterns=[*FILES, CARD],
            commit_message="Upload a generator with mscond",
        )
        return str(commit.commit_url)


def _library() -> Any:
    try:
        import huggingface_hub
    except ImportError as error:
        raise ValueError("repositories on the hub need a package: pip install huggingface_hub") from error
    return huggingface_hub


@contextlib.contextmanager
def _errors_in_one_line(what: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # the client library lets errors of its HTTP library through
        text = str(error).strip() or type(error).__name__
        raise ValueError(f"{what}: {text.splitlines()[0][:300]!a}") from error
