"""ObjectStore in a bucket of S3, or of anything that speaks it (MinIO, Ceph).

Used by the services in a cluster. Objects are written with ``If-None-Match: *``, so that a key
stays immutable whoever races for it. Workers and people read and write single objects through
presigned URLs, which name the store itself: bytes do not pass through our services.
"""

from __future__ import annotations

import contextlib
import datetime
import hashlib
import io
from collections.abc import Iterator, Mapping
from typing import Any, BinaryIO, Final, Literal
from urllib import parse
from xml.etree import ElementTree

import certifi
import minio
import minio.error
import urllib3

from quintile import ports
from quintile.adapters import object_directory
from quintile.core import errors

PART_BYTES: Final = 16 * 1024 * 1024
"""Size of the parts of a large object; 10,000 of them fit (160 GB)."""

PIECE_BYTES: Final = 1024 * 1024
LONGEST_URL_S: Final = 7 * 24 * 3600
CONNECT_S: Final = 5.0
READ_S: Final = 60.0
POOL: Final = 40
TRIES: Final = 3
_DIGEST: Final = "x-amz-meta-sha256"
_FIRST: Final = {"If-None-Match": "*"}
_EXISTS: Final = frozenset({"PreconditionFailed", "ConditionalRequestConflict"})
_NOT_THERE: Final = frozenset({"NoSuchKey", "NoSuchUpload", "XMinioParentIsObject"})
_KEYS: Final = frozenset(
    {
        "AccessDenied",
        "InvalidAccessKeyId",
        "SignatureDoesNotMatch",
        "InvalidTokenId",
        "AuthorizationHeaderMalformed",
        "RequestTimeTooSkewed",
    }
)
_FULL: Final = frozenset(
    {"XMinioStorageFull", "XMinioAdminBucketQuotaExceeded", "QuotaExceeded", "EntityTooLarge"}
)


class S3ObjectStore:
    """Port ``ObjectStore`` in one bucket, which must exist. Thread-safe.

    Args:
        endpoint: ``http[s]://HOST[:PORT]``; URLs that are handed out name it too.
        bucket: Name of the bucket.
        access_key: Who we are there.
        secret_key: The secret of that key.
        region: Region that requests are signed for.

    Raises:
        InvalidSpec: The endpoint is no such address.
    """

    def __init__(
        self, endpoint: str, bucket: str, *, access_key: str, secret_key: str, region: str
    ) -> None:
        parts = parse.urlsplit(endpoint)
        if parts.scheme not in ("http", "https") or not parts.netloc or parts.path.strip("/"):
            raise errors.InvalidSpec(
                f"The address of the object store is {endpoint!r}; expected http[s]://HOST[:PORT].",
                hint="Correct QUINTILE_S3__ENDPOINT.",
                field="QUINTILE_S3__ENDPOINT",
            )
        self._s3 = _Bucket(
            parts, bucket, access_key=access_key, secret_key=secret_key, region=region
        )

    def check(self) -> None:
        """Check that the store answers, knows us and has the bucket.

        Raises:
            Unavailable: It does not; the message says which.
        """
        with self._s3.translated(""):
            next(iter(self._s3.list_objects(self._s3.bucket, prefix="-/")), None)

    def put(self, key: str, data: bytes | BinaryIO, *, sha256: str = "") -> ports.ObjectInfo:
        """Store bytes whole or not at all; see the port."""
        source = io.BytesIO(data) if isinstance(data, bytes) else data
        upload = S3Upload(self._s3, key)
        try:
            while piece := source.read(PIECE_BYTES):
                upload.write(piece)
            return upload.commit(sha256=sha256)
        except BaseException:
            upload.abort()
            raise

    def get(self, key: str, *, start: int = 0, length: int | None = None) -> bytes:
        """Return a range of bytes; see the port."""
        object_directory.check_key(key)
        if length == 0:
            self._s3.size(key)
            return b""
        with self._s3.translated(key):
            try:
                return self._s3.read(key, start, length)
            except minio.error.S3Error as error:
                if error.code == "InvalidRange":
                    # It begins behind the end of an object that is there.
                    return b""
                raise

    def list(self, prefix: str) -> Iterator[ports.ObjectInfo]:
        """Yield objects by key; see the port."""
        text = prefix.rstrip("/")
        if text:
            object_directory.check_key(text)
        with self._s3.translated(prefix):
            for found in self._s3.list_objects(self._s3.bucket, prefix=prefix, recursive=True):
                yield ports.ObjectInfo(key=found.object_name or "", size=found.size or 0)

    def delete(self, key: str) -> None:
        """Forget an object; see the port."""
        object_directory.check_key(key)
        with contextlib.suppress(errors.NotFound), self._s3.translated(key):
            self._s3.remove_object(self._s3.bucket, key)

    def url(self, key: str, *, method: Literal["GET", "PUT"], ttl_s: int) -> str:
        """Return a presigned URL of the store itself; it lasts seven days at most."""
        object_directory.check_key(key)
        ttl = datetime.timedelta(seconds=min(max(1, ttl_s), LONGEST_URL_S))
        return self._s3.get_presigned_url(method, self._s3.bucket, key, expires=ttl)

    def multipart(self, key: str) -> S3Upload:
        """Begin an upload of unknown size; see the port."""
        return S3Upload(self._s3, key)


class S3Upload:
    """Port ``Upload``: one request for what fits into a part, a multipart upload beyond that."""

    def __init__(self, s3: _Bucket, key: str) -> None:
        object_directory.check_key(key)
        self._s3, self._key = s3, key
        self._hash = hashlib.sha256()
        self._size = 0
        self._left = bytearray()
        self._upload_id = ""
        self._parts: list[str] = []
        self._ended = False

    def write(self, data: bytes) -> None:
        """Append bytes; see the port."""
        assert not self._ended, "the upload has ended"
        self._hash.update(data)
        self._size += len(data)
        self._left += data
        while len(self._left) > PART_BYTES:
            part = bytes(self._left[:PART_BYTES])
            del self._left[:PART_BYTES]
            try:
                self._send(part)
            except BaseException:
                self.abort()
                raise

    def commit(self, *, sha256: str = "") -> ports.ObjectInfo:
        """Make the object appear; see the port. ``sha256``: refuse other bytes."""
        assert not self._ended, "the upload has ended"
        info = ports.ObjectInfo(key=self._key, size=self._size, sha256=self._hash.hexdigest())
        try:
            if sha256 and sha256 != info.sha256:
                raise errors.InvalidSpec(
                    f"Object {self._key!r} has SHA-256 {info.sha256[:12]}…, not {sha256[:12]}….",
                    hint="Send the bytes again; they were changed on the way.",
                    field="sha256",
                )
            with self._s3.translated(self._key):
                self._appear(info)
        finally:
            self.abort()
        return info

    def abort(self) -> None:
        """Discard everything. Idempotent."""
        self._ended = True
        self._left.clear()
        if self._upload_id:
            upload_id, self._upload_id = self._upload_id, ""
            # What cannot be discarded now is discarded by the bucket's rule for old uploads.
            with contextlib.suppress(errors.QuintileError), self._s3.translated(self._key):
                self._s3.end_upload(self._key, upload_id)

    def _send(self, part: bytes) -> None:
        with self._s3.translated(self._key):
            if not self._upload_id:
                self._upload_id = self._s3.begin_upload(self._key)
            number = len(self._parts) + 1
            self._parts.append(self._s3.send_part(self._key, self._upload_id, number, part))

    def _appear(self, info: ports.ObjectInfo) -> None:
        body = bytes(self._left)
        if self._upload_id and body:
            self._send(body)
        for last in (False,) * (TRIES - 1) + (True,):
            try:
                if self._upload_id:
                    self._s3.complete_upload(self._key, self._upload_id, self._parts)
                    self._upload_id = ""
                else:
                    self._s3.put(self._key, body, {**_FIRST, _DIGEST: info.sha256})
                return
            except minio.error.S3Error as error:
                if error.code not in _EXISTS:
                    raise
                stored = self._s3.digest(self._key)
                if stored == info.sha256:
                    return
                if stored is not None or last:
                    raise errors.Conflict(
                        f"Object {self._key!r} exists with other bytes; objects are immutable.",
                        hint="Write under another key.",
                    ) from None
                # Another writer failed, or its object was deleted, between the two requests.


class _Bucket(minio.Minio):
    """Requests to one bucket, with the conditions that the library's own calls do not send."""

    def __init__(
        self,
        address: parse.SplitResult,
        bucket: str,
        *,
        access_key: str,
        secret_key: str,
        region: str,
    ) -> None:
        pool = urllib3.PoolManager(
            maxsize=POOL,
            timeout=urllib3.Timeout(connect=CONNECT_S, read=READ_S),
            retries=urllib3.Retry(2, connect=1, read=1, status=0, backoff_factor=0.1),
            cert_reqs="CERT_REQUIRED",
            ca_certs=certifi.where(),
        )
        super().__init__(
            address.netloc,
            access_key=access_key,
            secret_key=secret_key,
            secure=address.scheme == "https",
            region=region,
            http_client=pool,
        )
        self.bucket = bucket
        self.place = f"{address.scheme}://{address.netloc}"

    def read(self, key: str, start: int, length: int | None) -> bytes:
        """Return a range of an object; a ``length`` of None means to the end."""
        headers: dict[str, Any] = {}
        if start or length is not None:
            end = "" if length is None else str(start + length - 1)
            headers["Range"] = f"bytes={start}-{end}"
        return bytes(self._execute("GET", self.bucket, key, headers=headers).data)

    def size(self, key: str) -> int:
        """Return the size of an object in bytes."""
        with self.translated(key):
            return self.stat_object(self.bucket, key).size or 0

    def put(self, key: str, body: bytes, headers: Mapping[str, str]) -> None:
        """Store an object in one request."""
        self._execute("PUT", self.bucket, key, body=body, headers=dict(headers), no_body_trace=True)

    def begin_upload(self, key: str) -> str:
        """Return the id of a new multipart upload."""
        return self._create_multipart_upload(self.bucket, key, {})

    def send_part(self, key: str, upload_id: str, number: int, body: bytes) -> str:
        """Store a part; return its tag."""
        return self._upload_part(self.bucket, key, body, None, upload_id, number)

    def complete_upload(self, key: str, upload_id: str, tags: list[str]) -> None:
        """Make the object out of its parts, unless there is one by now."""
        root = ElementTree.Element("CompleteMultipartUpload")
        for number, tag in enumerate(tags, 1):
            part = ElementTree.SubElement(root, "Part")
            ElementTree.SubElement(part, "PartNumber").text = str(number)
            ElementTree.SubElement(part, "ETag").text = f'"{tag}"'
        self._execute(
            "POST",
            self.bucket,
            key,
            body=ElementTree.tostring(root),
            headers={"Content-Type": "application/xml", **_FIRST},
            query_params={"uploadId": upload_id},
        )

    def end_upload(self, key: str, upload_id: str) -> None:
        """Discard the parts of an upload."""
        self._abort_multipart_upload(self.bucket, key, upload_id)

    def digest(self, key: str) -> str | None:
        """Return the SHA-256 of a stored object: as noted beside it, else of its bytes."""
        try:
            known = (self.stat_object(self.bucket, key).metadata or {}).get(_DIGEST)
            if known:
                return str(known)
            found = hashlib.sha256()
            response = self.get_object(self.bucket, key)
            try:
                for piece in response.stream(PIECE_BYTES):
                    found.update(piece)
            finally:
                response.close()
                response.release_conn()
            return found.hexdigest()
        except minio.error.S3Error as error:
            if error.code in _NOT_THERE:
                return None
            raise

    @contextlib.contextmanager
    def translated(self, key: str) -> Iterator[None]:
        """Turn errors of the store and of the network into the Quintile family, chained."""
        try:
            yield
        except minio.error.S3Error as error:
            raise self._error_of(error, key) from error
        except minio.error.ServerError as error:
            raise self._away(f"HTTP status {error.status_code}") from error
        except minio.error.InvalidResponseError as error:
            raise self._away("its answer is none of an object store") from error
        except urllib3.exceptions.HTTPError as error:
            raise self._away(type(getattr(error, "reason", None) or error).__name__) from error

    def _error_of(self, error: minio.error.S3Error, key: str) -> errors.QuintileError:
        code = error.code or "an error"
        if code in _NOT_THERE:
            return errors.NotFound(f"There is no object {key!r}.")
        if code in _FULL or error.response.status == 507:
            return errors.StoreFull(
                f"No room left in bucket {self.bucket!r} to store object {key!r}; nothing was "
                "kept.",
                hint="Free room there (or raise its quota), then try again.",
            )
        if code == "NoSuchBucket":
            return errors.Unavailable(
                f"The object store at {self.place} has no bucket {self.bucket!r}.",
                hint="Make the bucket, or correct QUINTILE_S3__BUCKET.",
                retry_after_s=10.0,
            )
        if code in _KEYS:
            return errors.Unavailable(
                f"The object store at {self.place} refuses our key for bucket {self.bucket!r} "
                f"({code}).",
                hint="Correct QUINTILE_S3__ACCESS_KEY and QUINTILE_S3__SECRET_KEY; the key needs "
                "to read, write, list and delete objects of the bucket.",
                retry_after_s=10.0,
            )
        return self._away(f"{code}: {error.message}")

    def _away(self, why: str) -> errors.Unavailable:
        return errors.Unavailable(
            f"The object store at {self.place} does not answer as it should: {why}.",
            hint="Check that it runs and that QUINTILE_S3__ENDPOINT is right.",
            retry_after_s=2.0,
        )
