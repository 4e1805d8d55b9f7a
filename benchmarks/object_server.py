"""A small S3 server for measurements: adds a delay to each answer, costs little itself, checks nothing.

    python -m benchmarks.object_server FOLDER --delay 0.05 --keys 100000

The bucket `bench` holds the files of FOLDER under `in/`, what is written to it, and `many/` so many keys that
are made up as they are listed. Prints its port; GET /-/requests tells how many requests there were, by kind.
"""

from __future__ import annotations

import argparse
import asyncio
from collections import Counter
from pathlib import Path
from urllib.parse import quote
from xml.sax.saxutils import escape

from aiohttp import web

BUCKET = "bench"
PAGE = 1000


class Server:
    def __init__(self, folder: Path, delay: float, keys: int) -> None:
        self.delay, self.keys = delay, keys
        self.objects = {f"in/{file.relative_to(folder)}": file.read_bytes() for file in folder.rglob("*.png")}
        self.requests: Counter[str] = Counter()

    async def answer(self, request: web.Request) -> web.StreamResponse:
        if request.path == "/-/requests":
            return web.json_response(dict(self.requests))
        listing = "list-type" in request.query
        self.requests["LIST" if listing else request.method] += 1
        content = await request.read()
        await asyncio.sleep(self.delay)
        if listing:
            return self._listing(request.query.get("prefix", ""), request.query.get("continuation-token", ""))
        key = request.path.removeprefix(f"/{BUCKET}/")
        if request.method == "PUT":
            self.objects[key] = content
            return web.Response(headers={"ETag": f'"{len(content)}"'})
        if key not in self.objects:
            body = "<Error><Code>NoSuchKey</Code></Error>"
            return web.Response(status=404, text=body, content_type="application/xml")
        content = self.objects[key]
        headers = {"ETag": f'"{key}"', "Last-Modified": "Mon, 05 Jan 2026 00:00:00 GMT"}
        if request.method == "HEAD":
            return web.Response(headers={**headers, "Content-Length": str(len(content))})
        if "Range" in request.headers:
            first, _, last = request.headers["Range"].removeprefix("bytes=").partition("-")
            whole, content = len(content), content[int(first) : int(last) + 1]
            headers["Content-Range"] = f"bytes {first}-{int(first) + len(content) - 1}/{whole}"
            return web.Response(status=206, body=content, headers=headers)
        return web.Response(body=content, headers=headers)

    def _listing(self, prefix: str, token: str) -> web.Response:
        start = int(token or 0)
        if prefix in ("many/", "few/"):
            keys = self.keys if prefix == "many/" else 2000
            end = min(start + PAGE, keys)
            found = [
                (f"{prefix}{n // 1000:05}/patient-{n:08}-frontal.png", 100_000) for n in range(start, end)
            ]
            more = end < keys
        else:
            below = [(key, len(content)) for key, content in sorted(self.objects.items())]
            below = [one for one in below if one[0].startswith(prefix)]
            found, more = below[start : start + PAGE], len(below) > start + PAGE
        rows = "".join(
            f"<Contents><Key>{escape(quote(key))}</Key><Size>{size}</Size><ETag>&quot;{key}&quot;</ETag>"
            "<LastModified>2026-01-05T00:00:00.000Z</LastModified></Contents>"
            for key, size in found
        )
        following = f"<NextContinuationToken>{start + PAGE}</NextContinuationToken>" if more else ""
        return web.Response(
            text=f"<ListBucketResult><EncodingType>url</EncodingType><IsTruncated>{str(more).lower()}"
            f"</IsTruncated>{following}{rows}</ListBucketResult>",
            content_type="application/xml",
        )


async def serve(server: Server) -> None:
    application = web.Application(client_max_size=10**9)
    application.router.add_route("*", "/{tail:.*}", server.answer)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    assert runner.addresses
    print(runner.addresses[0][1], flush=True)
    await asyncio.Event().wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--delay", type=float, default=0.05, help="seconds added to each answer")
    parser.add_argument("--keys", type=int, default=0)
    given = parser.parse_args()
    asyncio.run(serve(Server(given.folder, given.delay, given.keys)))


if __name__ == "__main__":
    main()
