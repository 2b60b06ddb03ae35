"""This machine's files: which paths may be read or written, with whose consent, and the opening of what was checked."""

from refvideo_mcp.files.consent import Consent
from refvideo_mcp.files.open import MAX_BYTES, LocalFile, read
from refvideo_mcp.files.path_syntax import NoPath, is_link, kind_of, parse_path, scheme_of
from refvideo_mcp.files.policy import is_broad, is_drive, real
from refvideo_mcp.files.resolve import FolderNotAllowed, check_still_there, check_writable, find, folder_and_name

__all__ = [
    "MAX_BYTES",
    "Consent",
    "FolderNotAllowed",
    "LocalFile",
    "NoPath",
    "check_still_there",
    "check_writable",
    "find",
    "folder_and_name",
    "is_broad",
    "is_drive",
    "is_link",
    "kind_of",
    "parse_path",
    "read",
    "real",
    "scheme_of",
]
