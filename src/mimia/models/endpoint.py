"""An HTTP endpoint of embeddings: it is sent images, and nothing that it answers is trusted.

An answer is read with a limit that follows from the number of images, within a limit of time, and from no other host
than the one that was named.
"""

import io
import threading
import time
from concurrent.futures import Future
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urljoin, urlsplit

import numpy as np

from mimia.models.vectors import WIDEST, read_vectors
from mimia.runtime.arrays import Floats, Pixels
from mimia.runtime.errors import MimiaError
from mimia.runtime.text import masked_address, shortened

if TYPE_CHECKING:
    from requests import Response

PATIENCE = 120.0
"""Seconds until an answer has to begin, with all retries."""
HURRY = 10.0
"""Seconds from there until a short answer has to be there as a whole."""
_SLOWEST = 1 << 25  # bytes a second of the longest possible answer, beyond that
_SILENCE = 30.0  # seconds between two packets, before the first of which the model computes
_TRIES, _LONGEST_WAIT = 6, 30.0
_BUSY, _MOVED, _REDIRECTS = (429, 503), (307, 308), 5


class _Origin(NamedTuple):
    """Who gets the images."""

    scheme: str
    host: str
    port: int

    @classmethod
    def of(cls, url: str) -> "_Origin":
        """Return the origin of an address.

        Raises:
            ValueError: It is no address of HTTP.
        """
        parts = urlsplit(url)
        port = parts.port or {"http": 80, "https": 443}.get(parts.scheme)
        if port is None or not parts.hostname or not url.isprintable():
            raise ValueError("it is no address of HTTP")
        return cls(parts.scheme, parts.hostname, port)


class Endpoint:
    """A function from images to vectors behind an address.

    Args:
        url: Takes a POST of images as a ``.npy`` file, and answers with one of vectors. User and password in it are
            sent as such; without them, those that ``~/.netrc`` has for the host.

    Raises:
        MimiaError: It is no address.
    """

    def __init__(self, url: str) -> None:
        import requests

        self.name = shortened(masked_address(url), 100)
        self._url, self._session = url, requests.Session()
        try:
            self._origin = _Origin.of(url)
        except ValueError as error:
            raise MimiaError(f"{self.name} is no address of an endpoint ({error}): pass http(s)://HOST/PATH.") from None

    def __call__(self, pixels: Pixels) -> Floats:
        """Return the vectors of images, uint8, (B, C, H, W) -> (B, D).

        Raises:
            MimiaError: The endpoint does not answer in time, or not with vectors.
        """
        body = io.BytesIO()
        np.save(body, pixels, allow_pickle=False)
        begun: Future[None] = Future()
        ended: Future[Floats] = Future()
        # A thread, because an answer that drips outlasts any time limit of a socket; the program need not wait for it.
        threading.Thread(target=self._post, args=(body.getvalue(), len(pixels), begun, ended), daemon=True).start()
        try:
            begun.result(PATIENCE)
            return ended.result(HURRY + len(pixels) * WIDEST * 8 / _SLOWEST)
        except TimeoutError:
            raise MimiaError(
                f"{self.name} did not give all of its answer in time ({PATIENCE:.0f} s until it begins, {HURRY:.0f} s "
                "from there): make it faster, or lower signals.batch_size."
            ) from None

    def _post(self, body: bytes, rows: int, begun: "Future[None]", ended: "Future[Floats]") -> None:
        """Set the results of both futures, or what went wrong."""
        import requests
        import urllib3

        failure: BaseException
        try:
            with self._patient(body) as response:
                begun.set_result(None)
                ended.set_result(read_vectors(partial(_read, response), rows, self.name))
                return
        except (requests.RequestException, urllib3.exceptions.HTTPError, OSError, ValueError) as error:
            reason = _in_words(error)
            failure = MimiaError(f"{self.name} does not answer ({reason}): start it, then run the same command again.")
        except BaseException as error:  # is raised in the thread that waits
            failure = error
        for future in (begun, ended):
            if not future.done():
                future.set_exception(failure)

    def _patient(self, body: bytes) -> "Response":
        """Ask again, and later each time, while the endpoint says that it is busy."""
        started = time.monotonic()
        response = self._follow(body)
        for attempt in range(_TRIES - 1):
            wait = _wait(response, attempt)
            if response.status_code not in _BUSY or time.monotonic() + wait > started + PATIENCE:
                break
            response.close()
            time.sleep(wait)
            response = self._follow(body)
        if response.ok and "Content-Encoding" not in response.headers:
            return response
        response.close()
        reason = f"status {response.status_code}" if not response.ok else "it compresses its answer"
        raise MimiaError(
            f"{self.name} does not answer with vectors ({reason}): check the address with its user and password, and "
            "that the endpoint works."
        )

    def _follow(self, body: bytes) -> "Response":
        """Send images, and send them on within the same host only."""
        url = self._url
        for _ in range(_REDIRECTS):
            response = self._session.post(
                url,
                data=body,
                headers={"Content-Type": "application/octet-stream", "Accept-Encoding": "identity"},
                timeout=(_SILENCE, PATIENCE),
                allow_redirects=False,
                stream=True,
            )
            if not 300 <= response.status_code < 400:
                return response
            response.close()
            url = self._next(url, response)
        raise MimiaError(f"{self.name} redirects without end: pass the address that it leads to.")

    def _next(self, url: str, response: "Response") -> str:
        target = urljoin(url, response.headers.get("Location", ""))
        try:
            allowed = response.status_code in _MOVED and _Origin.of(target) == self._origin
        except ValueError:
            allowed = False
        if not allowed:
            raise MimiaError(
                f"{self.name} redirects to {shortened(masked_address(target), 80)}, and images are sent to no other "
                "place than the one that is named: pass that address, if it is right."
            )
        return target


def _read(response: "Response", size: int) -> bytes:
    """Read bytes of an answer: fewer than ``size`` only at its end."""
    found = bytearray()
    while len(found) < size and (piece := response.raw.read(size - len(found), decode_content=False)):
        found += piece
    return bytes(found)


def _wait(response: "Response", attempt: int) -> float:
    """Return for how many seconds to wait: as the endpoint says, within bounds, or longer each time."""
    from urllib3.exceptions import InvalidHeader
    from urllib3.util import Retry

    try:
        wanted = Retry().parse_retry_after(response.headers.get("Retry-After", ""))
    except (InvalidHeader, ValueError, OverflowError):
        wanted = 0.5 * 2**attempt
    return min(max(wanted, 0.0), _LONGEST_WAIT)


def _in_words(error: Exception) -> str:
    """Return what went wrong, without the address, which the error itself repeats with its secrets."""
    import requests

    words: dict[Any, str] = {
        requests.exceptions.SSLError: "its certificate is not valid",
        requests.exceptions.ProxyError: "the proxy does not let it through",
        requests.Timeout: "it takes too long",
        requests.ConnectionError: "there is no connection, or it was cut",
    }
    return next((text for kind, text in words.items() if isinstance(error, kind)), type(error).__name__)
