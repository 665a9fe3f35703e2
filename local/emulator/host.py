"""The process of the local AWS: ministack on loopback, mended to do what AWS does.

    python -m local.emulator.host [--port 4566] [--retry-delay 1] [--until-stdin-closes]

Prints its endpoint as the first line of standard output once it answers, and logs to standard error.
What no client can ask of AWS comes in at the side, as JSON with an `account` and a `region`:

    POST /_local/events         {…, "event": {"source": "aws.kms", "detail-type": …, "detail": …}}
        puts an event of an AWS service, which PutEvents refuses, on the default bus
    POST /_local/schedules      {…, "name": …, "time": …}
        fires a schedule of the default group ("group" names another)
    POST /_local/rules          {…, "name": …, "time": …}
        fires a scheduled rule of the default bus ("bus" names another)
    POST /_local/subscriptions  {…, "topic": ARN, "endpoint": …}
        confirms the subscription of an e-mail address
    POST /_local/alarms         {…, "time": …}
        evaluates the alarms, missing data too, and answers their states

A `time`, in seconds since the epoch, is when that is supposed to happen; without it, now.
"""

import argparse
import asyncio
import json
import os
import signal
import socket
import sys
import threading
from typing import Any

LOOPBACK = "127.0.0.1"


def main() -> int:
    options = _options()
    try:
        listener = _listen(options.port)
    except OSError as error:
        print(f"cannot listen on {LOOPBACK}:{options.port}: {error.strerror}", file=sys.stderr)
        return 2
    endpoint = f"http://{LOOPBACK}:{listener.getsockname()[1]}"
    _set_environment(endpoint, options.retry_delay)
    app = _mended_ministack()
    asyncio.run(_serve(app, listener, endpoint, options.until_stdin_closes))
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m local.emulator.host", description="A local AWS on loopback.")
    parser.add_argument("--port", type=int, default=0, help="port to listen on (default: a free one)")
    parser.add_argument("--retry-delay", type=float, default=1, help="seconds before a failed invocation is repeated")
    parser.add_argument("--until-stdin-closes", action="store_true", help="end when the starting process is gone")
    return parser.parse_args()


def _listen(port: int) -> socket.socket:
    """Take the port first, so that nobody else can between choosing and using it."""
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((LOOPBACK, port))
    listener.listen(128)
    return listener


def _set_environment(endpoint: str, retry_delay: float) -> None:
    """ministack reads these once, when it is imported; functions inherit them."""
    port = endpoint.rsplit(":", 1)[1]
    os.environ.update(
        AWS_ENDPOINT_URL=endpoint,
        BIND_HOST=LOOPBACK,
        MINISTACK_HOST=LOOPBACK,
        GATEWAY_PORT=port,
        CLOUDTRAIL_RECORDING="1",
        IOT_MTLS_ENABLED="0",
        SFTP_ENABLED="0",
        LAMBDA_EXECUTOR="local",
        LAMBDA_ASYNC_RETRY_BASE_SECONDS=str(retry_delay),
        # ministack would look for containers of its own; the local AWS has none.
        DOCKER_HOST="unix:///nonexistent/docker.sock",
    )
    os.environ.setdefault("LOG_LEVEL", "WARNING")


def _mended_ministack() -> Any:
    from ministack import app as ministack

    from . import (
        buses,
        cloudtrail,
        drift,
        events,
        iam,
        kms,
        logs,
        metrics,
        organizations,
        schedules,
        sns,
        stacks,
        sts,
        trails,
    )

    for part in (
        *(organizations, iam, sts, kms, trails, cloudtrail, events),
        *(buses, sns, logs, metrics, schedules, stacks, drift),
    ):
        part.mend()
    # Loaded with the first call otherwise, which that call's record would miss.
    ministack._get_module("cloudtrail")
    at_the_side = {
        "/_local/events": events.deliver_for,
        "/_local/schedules": schedules.fire_schedule,
        "/_local/rules": schedules.fire_rule,
        "/_local/subscriptions": sns.confirm,
        "/_local/alarms": metrics.evaluate_alarms,
    }

    async def app(scope: dict, receive: Any, send: Any) -> None:
        if scope["type"] == "http" and scope["path"] in at_the_side:
            await _answer(at_the_side[scope["path"]], receive, send)
        else:
            await ministack.app(scope, receive, send)

    return app


async def _answer(do: Any, receive: Any, send: Any) -> None:
    """Do what a request at the side asks for, with the members of its JSON as arguments."""
    body, more = b"", True
    while more:
        message = await receive()
        body, more = body + message.get("body", b""), message.get("more_body", False)
    try:
        status, answer = 200, do(**json.loads(body)) or {}
    except (ValueError, KeyError, TypeError) as error:
        status, answer = 400, {"message": f"can't do {body.decode(errors='replace')[:500]}: {error!r}"}
    await send({"type": "http.response.start", "status": status, "headers": [(b"content-type", b"application/json")]})
    await send({"type": "http.response.body", "body": json.dumps(answer).encode()})


async def _serve(app: Any, listener: socket.socket, endpoint: str, until_stdin_closes: bool) -> None:
    from hypercorn.asyncio import serve
    from hypercorn.config import Config
    from ministack.core import lambda_runtime

    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    if until_stdin_closes:
        threading.Thread(target=_wait_for_end, args=(loop, stop), daemon=True).start()

    async def announced(scope: dict, receive: Any, send: Any) -> None:
        async def send_and_announce(message: dict) -> None:
            await send(message)
            if message["type"] == "lifespan.startup.complete":
                print(endpoint, flush=True)

        await app(scope, receive, send_and_announce if scope["type"] == "lifespan" else send)

    config = Config()
    config.bind = [f"fd://{listener.fileno()}"]
    config.graceful_timeout = 1
    config.loglevel = "WARNING"
    await serve(announced, config, shutdown_trigger=stop.wait)
    # The functions' processes: nobody else ends them.
    lambda_runtime.reset()


def _wait_for_end(loop: asyncio.AbstractEventLoop, stop: asyncio.Event) -> None:
    # Not sys.stdin, whose lock would be held when the interpreter ends.
    while os.read(0, 4096):
        pass
    loop.call_soon_threadsafe(stop.set)


if __name__ == "__main__":
    sys.exit(main())
