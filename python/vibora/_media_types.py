"""Media types by the ending of a file's name."""

from typing import Final

_UTF8: Final = "; charset=utf-8"

#: What the web is made of, the same on every machine. The rest is looked up in the standard library's table.
_TYPES: Final = {
    "7z": "application/x-7z-compressed",
    "aac": "audio/aac",
    "apk": "application/vnd.android.package-archive",
    "apng": "image/apng",
    "atom": "application/atom+xml",
    "avi": "video/x-msvideo",
    "avif": "image/avif",
    "bin": "application/octet-stream",
    "bmp": "image/bmp",
    "br": "application/octet-stream",
    "bz2": "application/x-bzip2",
    "css": "text/css" + _UTF8,
    "csv": "text/csv" + _UTF8,
    "doc": "application/msword",
    "docx": "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
    "eot": "application/vnd.ms-fontobject",
    "epub": "application/epub+zip",
    "flac": "audio/flac",
    "geojson": "application/geo+json",
    "gif": "image/gif",
    "glb": "model/gltf-binary",
    "gltf": "model/gltf+json",
    "gz": "application/gzip",
    "heic": "image/heic",
    "heif": "image/heif",
    "htm": "text/html" + _UTF8,
    "html": "text/html" + _UTF8,
    "ico": "image/vnd.microsoft.icon",
    "ics": "text/calendar" + _UTF8,
    "jpeg": "image/jpeg",
    "jpg": "image/jpeg",
    "js": "text/javascript" + _UTF8,
    "json": "application/json",
    "jsonld": "application/ld+json",
    "jxl": "image/jxl",
    "m3u8": "application/vnd.apple.mpegurl",
    "m4a": "audio/mp4",
    "m4v": "video/mp4",
    "map": "application/json",
    "md": "text/markdown" + _UTF8,
    "mjs": "text/javascript" + _UTF8,
    "mkv": "video/matroska",
    "mov": "video/quicktime",
    "mp3": "audio/mpeg",
    "mp4": "video/mp4",
    "mpd": "application/dash+xml",
    "mpeg": "video/mpeg",
    "ndjson": "application/x-ndjson",
    "odp": "application/vnd.oasis.opendocument.presentation",
    "ods": "application/vnd.oasis.opendocument.spreadsheet",
    "odt": "application/vnd.oasis.opendocument.text",
    "oga": "audio/ogg",
    "ogg": "audio/ogg",
    "ogv": "video/ogg",
    "opus": "audio/ogg",
    "otf": "font/otf",
    "pdf": "application/pdf",
    "png": "image/png",
    "ppt": "application/vnd.ms-powerpoint",
    "pptx": "application/vnd.openxmlformats-officedocument.presentationml.presentation",
    "rss": "application/rss+xml",
    "rtf": "application/rtf",
    "svg": "image/svg+xml",
    "tar": "application/x-tar",
    "tif": "image/tiff",
    "tiff": "image/tiff",
    "toml": "application/toml",
    "ts": "video/mp2t",
    "tsv": "text/tab-separated-values" + _UTF8,
    "ttf": "font/ttf",
    "txt": "text/plain" + _UTF8,
    "vtt": "text/vtt" + _UTF8,
    "wasm": "application/wasm",
    "wav": "audio/wav",
    "weba": "audio/webm",
    "webm": "video/webm",
    "webmanifest": "application/manifest+json",
    "webp": "image/webp",
    "woff": "font/woff",
    "woff2": "font/woff2",
    "xhtml": "application/xhtml+xml",
    "xls": "application/vnd.ms-excel",
    "xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
    "xml": "application/xml",
    "xz": "application/x-xz",
    "yaml": "application/yaml",
    "yml": "application/yaml",
    "zip": "application/zip",
    "zst": "application/zstd",
}

UNKNOWN: Final = "application/octet-stream"


def media_type(name: str) -> str:
    """Return the media type that a file's name suggests, with the charset of text; `UNKNOWN` when it suggests none.

    Args:
        name: The name or path of the file. What compresses it counts, not what was compressed: a `.tar.gz` is gzip.
    """
    # Like the system's own functions: a name that only begins with a dot has no ending.
    stem, dot, ending = name.replace("\\", "/").rpartition("/")[2].rpartition(".")
    if not dot or not stem:
        return UNKNOWN
    if known := _TYPES.get(ending.lower()):
        return known
    import mimetypes  # noqa: PLC0415  slow to import, and seldom asked

    guessed, encoding = mimetypes.guess_type(f"_.{ending}")
    if guessed is None or encoding is not None:
        return UNKNOWN
    return guessed + _UTF8 if guessed.startswith("text/") else guessed
