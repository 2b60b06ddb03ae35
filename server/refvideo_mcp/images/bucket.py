"""The user's own bucket, for gateways that want addresses: pictures go there, and the router gets links to them."""

import re
from collections.abc import Mapping
from datetime import timedelta
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import anyio.to_thread

from refvideo_mcp.errors import Refused, ask_user
from refvideo_mcp.extras import how_to_install
from refvideo_mcp.images.picture import Picture
from refvideo_mcp.images.url_check import check_url

if TYPE_CHECKING:
    from obstore.store import S3Store

__all__ = ["Bucket"]

# The router may fetch a picture only when the job's turn has come.
LINK_LIFE = timedelta(hours=24)

# What S3's error codes mean; obstore gives code and status only as part of a long text.
_TROUBLES = {
    "<Code>(NoSuchBucket|InvalidBucketName)<|status code: 404": "there is no such bucket (REFVIDEO_MEDIA_STORE)",
    "<Code>(ExpiredToken|TokenRefreshRequired)<": "the AWS credentials have expired",
    "<Code>(InvalidAccessKeyId|SignatureDoesNotMatch|InvalidToken)<|status code: 401": (
        "the AWS credentials are wrong (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN)"
    ),
    "<Code>RequestTimeTooSkewed<": "the clock of this machine is wrong",
    "<Code>AuthorizationHeaderMalformed<|status code: 30[17]|without LOCATION": (
        "the bucket is in another region (AWS_REGION)"
    ),
    "status code: 403": "the AWS credentials do not allow s3:PutObject there",
    "status code: ": "it answered with an error",
    "": "it could not be reached, or the connection broke (AWS_ENDPOINT_URL)",
}


class Bucket:
    """`address` is s3://bucket or s3://bucket/prefix, `name` the first part of it, for messages.

    Credentials, region and endpoint are in AWS's own environment variables, where obstore reads them. `any_host`: the
    router is on this machine itself, and can fetch from this machine's network.
    """

    def __init__(self, address: str, *, any_host: bool = False):
        bucket, self._prefix = urlsplit(address).netloc, urlsplit(address).path.strip("/")
        self.name = f"s3://{bucket}"
        self._bucket = bucket
        self._any_host = any_host

    async def links(self, pictures: Mapping[str, Picture]) -> dict[str, str]:
        """Upload the pictures, each once; their presigned links, which are secrets.

        Raises:
            Refused: a picture could not be uploaded, or the router could not fetch it there.
        """
        store = await anyio.to_thread.run_sync(self._opened)
        by_hash = {picture.sha256: picture for picture in pictures.values()}
        links = {sha256: await self._link(store, picture) for sha256, picture in by_hash.items()}
        return {image: links[picture.sha256] for image, picture in pictures.items()}

    def _opened(self) -> "S3Store":
        try:
            from obstore.exceptions import BaseError
            from obstore.store import S3Store
        except ImportError:
            raise Refused(
                "REFVIDEO_MEDIA_STORE is set, but this server cannot upload pictures yet.",
                ask_user(f"run {how_to_install('obstore')}. Nothing was sent or bought."),
            ) from None
        try:
            return S3Store(
                self._bucket,
                prefix=self._prefix or None,
                client_options={"allow_http": self._any_host, "timeout": "1m"},  # the call's own deadline is nearer
                retry_config={"max_retries": 2, "retry_timeout": timedelta(seconds=20)},
            )
        except (BaseError, ValueError):
            raise self._unusable() from None

    async def _link(self, store: "S3Store", picture: Picture) -> str:
        """Upload one picture, named by its content: the same one again changes nothing but its age."""
        import obstore
        from obstore.exceptions import BaseError

        name = f"{picture.sha256}.{picture.kind}"
        try:
            link = await obstore.sign_async(store, "GET", name, LINK_LIFE)
        except (BaseError, ValueError):
            raise self._unusable() from None
        if not (self._any_host or _is_public(link)):
            raise self._refused("the router can fetch only from a public https address (AWS_ENDPOINT_URL)")
        try:
            attributes = {"Content-Type": f"image/{picture.kind}"}
            await obstore.put_async(store, name, picture.content, attributes=attributes, use_multipart=False)
        except (BaseError, ValueError, OSError) as error:
            said = str(error)
            raise self._refused(next(why for what, why in _TROUBLES.items() if re.search(what, said))) from None
        return link

    def _unusable(self) -> Refused:
        return self._refused(
            "no usable AWS settings (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_REGION, AWS_ENDPOINT_URL)"
        )

    def _refused(self, why: str) -> Refused:
        return Refused(
            f"The pictures could not be uploaded to {self.name}: {why}.",
            "Nothing was bought. " + ask_user("mend that, then try again."),
        )


def _is_public(link: str) -> bool:
    try:
        check_url(link, "AWS_ENDPOINT_URL", any_host=False)
    except Refused:
        return False
    return link.startswith("https:")
