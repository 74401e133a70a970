"""Translate images, audio and files.

Media in the request stays base64; it is checked and never decoded. Remote media is passed to Google
by URL, which fetches it: this program never opens a URL of a client.
"""

from __future__ import annotations

import posixpath
import re
from urllib.parse import unquote, urlsplit

from gemproxy.core.errors import InvalidRequest
from gemproxy.media_bypass import is_base64
from gemproxy.providers.gemini.wire.requests import Blob, FileData

#: The images that Gemini reads (ai.google.dev, image understanding).
IMAGE_TYPES = ("image/png", "image/jpeg", "image/webp", "image/heic", "image/heif", "image/gif")
#: Types that do not show the kind of media.
UNKNOWN_TYPE = "application/octet-stream"

#: OpenAI's audio formats and those that Gemini takes beside them.
AUDIO_TYPES = {
    "wav": "audio/wav",
    "mp3": "audio/mp3",
    "aiff": "audio/aiff",
    "aac": "audio/aac",
    "ogg": "audio/ogg",
    "flac": "audio/flac",
}

_TYPES_BY_EXTENSION = {
    ".png": "image/png",
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".webp": "image/webp",
    ".heic": "image/heic",
    ".heif": "image/heif",
    ".gif": "image/gif",
    ".bmp": "image/bmp",
    ".svg": "image/svg+xml",
    ".tif": "image/tiff",
    ".tiff": "image/tiff",
    ".avif": "image/avif",
    **{f".{extension}": mime_type for extension, mime_type in AUDIO_TYPES.items()},
    ".m4a": "audio/mp4",
    ".pdf": "application/pdf",
    ".txt": "text/plain",
    ".log": "text/plain",
    ".md": "text/markdown",
    ".csv": "text/csv",
    ".html": "text/html",
    ".htm": "text/html",
    ".css": "text/css",
    ".xml": "text/xml",
    ".rtf": "text/rtf",
    ".json": "application/json",
    ".js": "text/javascript",
    ".py": "text/x-python",
    ".mp4": "video/mp4",
    ".m4v": "video/mp4",
    ".mpeg": "video/mpeg",
    ".mpg": "video/mpeg",
    ".mov": "video/quicktime",
    ".avi": "video/x-msvideo",
    ".flv": "video/x-flv",
    ".webm": "video/webm",
    ".wmv": "video/x-ms-wmv",
    ".3gp": "video/3gpp",
}
_SYNONYMS = {
    "image/jpg": "image/jpeg",
    "image/pjpeg": "image/jpeg",
    "audio/x-wav": "audio/wav",
    "audio/wave": "audio/wav",
    "audio/x-aiff": "audio/aiff",
    "audio/x-flac": "audio/flac",
}

_MIME_TYPE = re.compile(r"[a-z0-9][a-z0-9!#$&^_.+-]*/[a-z0-9][a-z0-9!#$&^_.+-]*")
_YOUTUBE = re.compile(r"(?:(?:www|m|music)\.)?(?:youtube\.com|youtube-nocookie\.com|youtu\.be)")
_FILE_ID = re.compile(r"(?:files/)?(?P<id>[A-Za-z0-9_-]+)")
_FILE_IN_URI = re.compile(r"/files/(?P<id>[A-Za-z0-9_-]+)")
_FILES_URI = "https://generativelanguage.googleapis.com/v1beta/files/"
_FILES_HOST = "generativelanguage.googleapis.com"
_WHITE_SPACE = re.compile(r"\s+")
_LONGEST_DATA_URL_HEADER = 512
#: Characters of a URL; signed ones have some thousands, and longer ones take long to parse.
_LONGEST_URL = 64 * 1024
_LONGEST_SCHEME = 16
_DATA = "data:"


def is_data_url(url: str) -> bool:
    """Whether ``url`` contains the media itself."""
    return url[:5].lower() == _DATA


def parse_data_url(url: str, path: str) -> Blob:
    """The media of ``data:<type>[;parameters];base64,<data>``.

    Raises :class:`InvalidRequest` with ``param`` ``path`` for anything else (RFC 2397).
    """
    comma = url.find(",", 0, _LONGEST_DATA_URL_HEADER)
    header = url[len(_DATA) : comma].lower().split(";") if comma > 0 else []
    if len(header) < 2 or header[-1].strip() != "base64":
        raise InvalidRequest(
            f"{path}: expected a data URL of the form data:<type>;base64,<data>.", param=path
        )
    mime_type = known_type(header[0], path)
    return Blob(mime_type=mime_type, data=checked_base64(url[comma + 1 :], path))


def known_type(mime_type: str, path: str) -> str:
    """``mime_type`` in Gemini's spelling."""
    name = mime_type.strip().lower()
    if _MIME_TYPE.fullmatch(name) is None:
        raise InvalidRequest(f"{path}: '{mime_type[:60]}' is not a MIME type.", param=path)
    return _SYNONYMS.get(name, name)


def audio_type(name: str | None, path: str) -> str:
    """The MIME type of an audio format of OpenAI, or of one that Gemini accepts too.

    Raises :class:`InvalidRequest` with ``param`` ``path`` for any other.
    """
    if name is None:
        raise InvalidRequest(
            f"Missing required parameter: '{path}'.",
            param=path,
            reason="missing_required_parameter",
        )
    if (mime_type := AUDIO_TYPES.get(name)) is None:
        raise InvalidRequest(
            f"{path}: invalid value '{name[:60]}', expected one of {', '.join(AUDIO_TYPES)}.",
            param=path,
        )
    return mime_type


def checked_base64(data: str, path: str) -> str:
    """``data`` without line breaks if it is standard base64.

    Raises :class:`InvalidRequest` with ``param`` ``path`` for anything else.
    """
    if not _is_base64(data):
        data = _WHITE_SPACE.sub("", data)
        if not _is_base64(data):
            raise InvalidRequest(f"{path}: the data is not valid base64.", param=path)
    return data


def _is_base64(data: str) -> bool:
    return data.isascii() and is_base64(memoryview(data.encode("ascii")))


def checked_image(mime_type: str | None, path: str) -> None:
    """Raise :class:`InvalidRequest` for a kind of image that Gemini cannot read."""
    if mime_type is not None and mime_type.startswith("image/") and mime_type not in IMAGE_TYPES:
        readable = ", ".join(name.removeprefix("image/") for name in IMAGE_TYPES)
        raise InvalidRequest(
            f"{path}: Gemini does not read {mime_type}; it reads {readable}.",
            param=path,
            reason="unsupported_image_media_type",
        )


def type_by_name(name: str) -> str | None:
    """The MIME type by the name of a file."""
    return _TYPES_BY_EXTENSION.get(posixpath.splitext(name)[1].lower())


def remote_media(url: str, path: str, *, fallback: str | None) -> FileData:
    """Media that Google fetches; ``fallback`` is the MIME type if the URL does not show one.

    YouTube links and files at Google have no type: Google knows it. Raises :class:`InvalidRequest`
    for schemes other than http, https and gs.
    """
    if len(url) > _LONGEST_URL:
        if "://" not in url[:_LONGEST_SCHEME]:
            raise _no_address(path)
        raise InvalidRequest(
            f"{path}: an address may have {_LONGEST_URL} characters, this one has {len(url)}.",
            param=path,
        )
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
    except ValueError:
        raise InvalidRequest(f"{path}: not a valid URL.", param=path) from None
    if parts.scheme not in ("http", "https", "gs") or not host:
        raise _no_address(path)
    if _YOUTUBE.fullmatch(host) or host == _FILES_HOST:
        return FileData(file_uri=url)
    mime_type = type_by_name(unquote(parts.path)) or fallback
    return FileData(file_uri=url, mime_type=mime_type)


def _no_address(path: str) -> InvalidRequest:
    return InvalidRequest(
        f"{path}: expected a data URL, an http or https URL, or a gs:// address.", param=path
    )


def resource_of(uri: str) -> str | None:
    """The name of a file that only keys of one Google project can read; ``None`` for other files.

    It is ``files/ID`` for a file of the Files API, and the whole ``gs://`` address of others.
    """
    if uri.startswith("gs://"):
        return uri
    if f"//{_FILES_HOST}/" not in uri:
        return None
    match = _FILE_IN_URI.search(uri)
    return f"files/{match['id']}" if match is not None else uri


def uploaded_file(file_id: str, path: str) -> FileData:
    """A file of the Files API by ``ID``, ``files/ID`` or its whole uri; other URLs as they are."""
    if "://" in file_id:
        return remote_media(file_id, path, fallback=None)
    if (match := _FILE_ID.fullmatch(file_id)) is None:
        raise InvalidRequest(f"{path}: expected the id of an uploaded file.", param=path)
    return FileData(file_uri=_FILES_URI + match["id"])
