"""The probe that asks a web server."""

from __future__ import annotations

import contextlib
import http.client
import urllib.error
import urllib.parse
import urllib.request
from typing import Any

from .file_probes import holds
from .probe_context import ProbeContext, ProbeFailed

LOOPBACK = ("localhost", "127.0.0.1", "::1")


def probe_http(given: dict[str, Any], context: ProbeContext) -> str:
    """Get a URL and compare the status and, if asked, look for a text in the answer.

    Redirects are followed, to http and https alone, unless the status that is wanted is a redirect.
    The query of the URL and the credentials in it are never shown.
    """
    url: str = given["url"]
    parts = urllib.parse.urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ProbeFailed("http: not a URL of http or https")
    if "@" in parts.netloc:
        raise ProbeFailed(f"http: credentials in the URL of {parts.hostname} are not sent; take them out")
    shown = urllib.parse.urlunsplit((parts.scheme, parts.netloc, parts.path, "", ""))
    try:
        answer = _opener(parts.hostname, given["status"]).open(url, timeout=context.remaining())
    except urllib.error.HTTPError as error:
        answer = error  # an answer all the same, and perhaps the one that is wanted
    except urllib.error.URLError as error:
        if isinstance(error.reason, TimeoutError):
            raise error.reason from None
        reason = error.reason.strerror if isinstance(error.reason, OSError) else error.reason
        raise ProbeFailed(f"{shown}: {reason or 'no answer'}") from None
    except http.client.InvalidURL:
        raise ProbeFailed(f"{shown}: not a URL that can be asked for") from None
    except http.client.HTTPException as error:
        raise ProbeFailed(f"{shown}: not an answer of a web server ({type(error).__name__})") from None
    with contextlib.closing(answer):
        return _judge(answer, given, shown, context)


def _judge(answer: Any, given: dict[str, Any], shown: str, context: ProbeContext) -> str:
    if answer.status != given["status"]:
        raise ProbeFailed(f"{shown}: status {answer.status}, not {given['status']}")
    contains = given.get("contains")
    if contains is not None:
        try:
            # read() would wait for a whole block, however slowly it comes.
            found = holds(answer.read1, contains, context)
        except http.client.HTTPException:
            raise ProbeFailed(f"{shown}: the answer broke off") from None
        if not found:
            raise ProbeFailed(f"{shown}: the answer does not contain {contains!r}")
    return f"{shown}: status {answer.status}"


def _opener(host: str, status: int) -> urllib.request.OpenerDirector:
    # build_opener() would add the handlers for file: and ftp:, where a redirect could lead.
    opener = urllib.request.OpenerDirector()
    opener.add_handler(urllib.request.HTTPHandler())
    opener.add_handler(urllib.request.HTTPSHandler())
    opener.add_handler(urllib.request.HTTPErrorProcessor())
    opener.add_handler(urllib.request.HTTPDefaultErrorHandler())
    opener.add_handler(urllib.request.UnknownHandler())
    if host not in LOOPBACK:
        opener.add_handler(urllib.request.ProxyHandler())
    if not 300 <= status < 400:
        opener.add_handler(urllib.request.HTTPRedirectHandler())
    return opener
