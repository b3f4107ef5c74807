"""Sending a model folder to a model hub."""

from __future__ import annotations

from pathlib import Path
from typing import TypedDict

from raybert.errors import PlatformError


class PushOptions(TypedDict, total=False):
    """What `push_folder` takes; it says what each means."""

    token: str | None
    private: bool | None
    commit_message: str
    exist_ok: bool
    revision: str | None
    create_pr: bool
    endpoint: str | None


def push_folder(
    folder: Path,
    repo_id: str,
    *,
    token: str | None = None,
    private: bool | None = None,
    commit_message: str = "Add a raybert model",
    exist_ok: bool = False,
    revision: str | None = None,
    create_pr: bool = False,
    endpoint: str | None = None,
) -> str:
    """Make a repository and put a folder's files into it, in one commit.

    Args:
        folder: the model folder.
        repo_id: the repository, `owner/name`.
        token: the hub's token; None takes the one that is stored on this machine.
        private: whether only the owner may read it; None leaves that to the hub.
        commit_message: what the commit says.
        exist_ok: add to a repository that is there already.
        revision: branch to commit to; None is the main one.
        create_pr: propose the commit instead of making it.
        endpoint: the hub's address; None is huggingface.co.

    Returns:
        The address of the commit, or of the proposal.

    Raises:
        PlatformError: the hub refuses it or cannot be reached.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

    api = HfApi(endpoint=endpoint, token=token)
    try:
        made = api.create_repo(repo_id, private=private, exist_ok=exist_ok or create_pr)
        if revision is not None and not create_pr:
            api.create_branch(made.repo_id, branch=revision, exist_ok=True)
        commit = api.upload_folder(
            repo_id=made.repo_id,
            folder_path=folder,
            commit_message=commit_message,
            revision=revision,
            create_pr=create_pr,
        )
    except (HfHubHTTPError, OfflineModeIsEnabled, OSError, ValueError) as error:
        said = " ".join(str(error).split())[:200]
        raise PlatformError(f"repository {repo_id!r}: the hub says: {said}") from None
    return str(commit.pr_url if create_pr else commit.commit_url)
