"""Connection to a running Ray cluster."""

import logging
import os
import re
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from grok_lightning.errors import UserError

REACHABLE = 5.0  # seconds


def connect() -> None:
    """Connect to the Ray cluster that runs here or that ``RAY_ADDRESS`` names; does not start one.

    Raises:
        UserError: Ray is not installed, the address is invalid, or no cluster can be reached.
    """
    os.environ.setdefault("RAY_NUM_REDIS_GET_RETRIES", "3")  # how often a refused token is tried again, a second apart
    try:
        import ray
    except ImportError:
        raise UserError(
            "--executor is ray, which is not installed here; pip install 'grok_lightning[ray]', or use local"
        ) from None
    if ray.is_initialized():
        return
    _refuse_address(ray)
    handler = signal.getsignal(signal.SIGTERM)
    try:
        with _silent():
            ray.init(address="auto", log_to_driver=False, logging_level=logging.ERROR)
    except Exception as error:  # of many kinds: no cluster, other versions of Ray or Python, a token refused
        ray.shutdown()
        raise _unreachable(error) from None
    finally:
        signal.signal(signal.SIGTERM, handler)


@contextmanager
def _silent() -> Iterator[None]:
    """Suppress what native code writes to standard error."""
    kept = os.dup(2)
    with Path(os.devnull).open("w", encoding="utf-8") as nothing:
        os.dup2(nothing.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def _refuse_address(ray: Any) -> None:
    """Refuse an invalid address, or one where nothing listens: Ray itself would try for minutes."""
    given = os.environ.get("RAY_ADDRESS", "")
    if given not in ("", "auto") and not re.fullmatch(r"[^/]+:\d+", given):
        raise UserError(f"RAY_ADDRESS is {given!r}; HOST:PORT of a cluster that runs is expected, or nothing")
    with suppress(AttributeError, TypeError):  # private to Ray, may change
        try:
            host, port = ray._private.services.get_ray_address_from_environment("auto", None).rsplit(":", 1)
            socket.create_connection((host.strip("[]"), int(port)), REACHABLE).close()
        except OSError as error:
            raise _unreachable(error) from None


def _unreachable(error: Exception) -> UserError:
    text = f"{error} {error.__cause__}"
    if "AuthToken" in text or "authentication token" in text:
        return UserError(
            "--executor is ray, whose cluster refused the token; set RAY_AUTH_MODE=token, and copy ~/.ray/auth_token "
            "from its head node"
        )
    reason = f"no cluster can be reached ({shorten(error)})"
    return UserError(f"--executor is ray, but {reason}; start one with `ray start --head`")


def shorten(error: Exception) -> str:
    """Shorten an error of Ray to its first sentence."""
    return " ".join(str(error).split("\n")[0].split(". ")[0].split())[:150].rstrip(".")
