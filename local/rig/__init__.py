"""A rig for the functions' binaries: Lambda, SNS, KMS and STS on loopback, and every fault they can have, on demand.

    Sns, Kms, Sts  answer as AWS does, or as a schedule of faults says, for each topic or operation
    Function    what Lambda does with the binary: start it, hand it one event at a time, end it at its time-out,
                repeat a failed event twice, keep what failed for good in the on-failure queue

Use all three in `async with`: leaving it stops every server and every process, whatever happened. The connections are
plain HTTP unless `rig` is asked for TLS. The time-outs are the real ones; only the minutes that Lambda waits before it
repeats an event are scaled down.

    faults.py    `make faults`
    load.py      `make load`
    accounts.py  `make accounts`
    sweeping.py  10,000 keys, as the watch function looks for them
    roster.py    1,000 accounts in 17 Regions, as the hub's digest looks for them
"""

import asyncio
import json
import os
import re
import secrets
import signal
import socket
import ssl
import struct
import time
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, Literal, Self
from urllib.parse import parse_qs

from ..build import ALERT as BINARY
from ..build import ROOT

TLS = ROOT / "tests" / "tls"
"""The server's certificate, and the authority to trust for it."""
ACCOUNT = "111122223333"
REGION = "eu-west-1"
TOPICS = ("alerts", "findings")
CHAT = {"CHAT_TOPIC_ARN": f"arn:aws:sns:{REGION}:{ACCOUNT}:chat"}
"""What the function is told if there is a topic for chat channels too."""
OPERATIONS = ("DescribeKey", "ListAliases", "ListResourceTags", "GetKeyLastUsage", "ListGrants")
RUNTIME_API = "/2018-06-01/runtime/"
LONGEST_INIT = 10.0
"""Seconds that Lambda gives a function to ask for its first event."""
REPEATS = 2
"""How often Lambda repeats an asynchronous event that failed."""


class Fault(StrEnum):
    """What a service does instead of its work; the words are those of the printed table."""

    NONE = "works"
    THROTTLED = "throttles"
    THROTTLED_429 = "throttles (429 Throttled)"
    ERROR_500 = "answers 500"
    ERROR_503 = "answers 503"
    BAD_GATEWAY = "answers 502 with a web page"
    DENIED = "denies"
    GONE = "knows no such topic or key"
    BAD_SIGNATURE = "refuses the signature and quotes the request"
    GARBAGE = "answers garbage"
    EMPTY = "answers nothing (200, no body)"
    HANGS = "hangs"
    STALLS = "stops half-way through its answer"
    RESETS = "resets half-way through its answer"
    CLOSES = "closes without an answer"
    SLOW = "is slow (1 s)"
    TOO_SLOW = "is slow (2.5 s)"
    REFUSES = "refuses connections"
    UNREACHABLE = "can't be reached (packets dropped)"


DELAY = {Fault.SLOW: 1.0, Fault.TOO_SLOW: 2.5}
"""Seconds."""

Schedule = tuple[Fault, ...]
"""The fault of the first try, of the second, and so on; the last one stays."""


def until_try(fault: Fault, tries: int) -> Schedule:
    """The fault for so many tries, then none."""
    return (fault,) * tries + (Fault.NONE,)


# ---- HTTP --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Request:
    """A request as it came; the names of the headers are in lower case."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes


class Connection:
    """The connection that a request came by."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self.dead = False
        """Whether whatever comes by it from now on is lost on the way."""

    @property
    def gone(self) -> bool:
        """Whether the other side has given up."""
        return self._reader.at_eof() or self._writer.is_closing()

    async def request(self) -> Request | None:
        """The next request; None at the end."""
        try:
            start, *lines = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
            headers = {
                name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines if line)
            }
            method, path, _ = start.split(" ")
            body = await self._reader.readexactly(int(headers.get("content-length", 0)))
        except (asyncio.IncompleteReadError, ConnectionError):
            return None
        return Request(method, path, headers, body)

    async def send(self, data: bytes) -> None:
        with suppress(ConnectionError):
            self._writer.write(data)
            await self._writer.drain()

    async def until_given_up(self) -> None:
        with suppress(ConnectionError):
            await self._reader.read(1)
        self.close()

    def close(self) -> None:
        self._writer.close()

    def reset(self) -> None:
        """End it the hard way: the other side's next read fails."""
        linger = struct.pack("ii", 1, 0)
        self._writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self._writer.transport.abort()


class Server:
    """An HTTP/1.1 server on a free port of loopback."""

    def __init__(self) -> None:
        self.connections: dict[asyncio.Task[None] | None, Connection] = {}
        self.address = ""
        self.tls: ssl.SSLContext | None = None

    @property
    def url(self) -> str:
        return f"{'https' if self.tls else 'http'}://{self.address}"

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, limit=2**20, ssl=self.tls)
        self.address = "127.0.0.1:{1}".format(*self._server.sockets[0].getsockname())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        tasks = [task for task in self.connections if task]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = self.connections[asyncio.current_task()] = Connection(reader, writer)
        try:
            while not connection.gone and (request := await connection.request()):
                if connection.dead:
                    await connection.until_given_up()
                else:
                    await self.answer(request, connection)
        except asyncio.CancelledError:
            pass  # the server was stopped
        finally:
            writer.close()
            del self.connections[asyncio.current_task()]

    async def answer(self, request: Request, connection: Connection) -> None:
        """Do whatever is to be done about a request."""
        raise NotImplementedError


def response(status: int, body: bytes, **headers: str) -> bytes:
    """A whole HTTP response."""
    lines = [f"HTTP/1.1 {status} -", f"Content-Length: {len(body)}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + body


# ---- SNS and KMS -------------------------------------------------------------------------------------------------

GARBAGE = b'<html>\x1b[31m502 Bad\r\n\x00Gateway\xff{"uid": \n ERROR forged log line'


class Service(Server):
    """What SNS and KMS have in common. `faults` goes by topic or operation; `"*"` stands for any."""

    def __init__(self, faults: Mapping[str, Schedule]) -> None:
        super().__init__()
        self.faults = faults
        self.tries: Counter[str] = Counter()
        self.tokens: set[str] = set()
        """The session tokens that requests came with."""

    async def __aenter__(self) -> Self:
        match self.faults.get("*", (Fault.NONE,))[0]:
            case (Fault.REFUSES | Fault.UNREACHABLE) as fault:
                self._sockets = nobody_home(listening=fault is Fault.UNREACHABLE)
                self.address = "127.0.0.1:{1}".format(*self._sockets[0].getsockname())
                return self
            case _:
                self._sockets = []
                return await super().__aenter__()

    async def __aexit__(self, *exception: object) -> None:
        for held in self._sockets:
            held.close()
        if not self._sockets:
            await super().__aexit__(*exception)

    async def answer(self, request: Request, connection: Connection) -> None:
        if request.path == "/ping":
            # Asked for to open a connection; nothing of the service.
            await connection.send(response(200, b"healthy"))
            return
        self.tokens.add(request.headers.get("x-amz-security-token", ""))
        subject = self.subject(request)
        schedule = self.faults.get(subject) or self.faults.get("*") or (Fault.NONE,)
        fault = schedule[min(self.tries[subject], len(schedule) - 1)]
        self.tries[subject] += 1
        good = self.good(request, connection)
        match fault:
            case Fault.NONE:
                await connection.send(good)
                self.acknowledged(request, connection)
            case Fault.SLOW | Fault.TOO_SLOW:
                await asyncio.sleep(DELAY[fault])
                if not connection.gone:
                    await connection.send(good)
                    self.acknowledged(request, connection)
            case Fault.HANGS:
                await connection.until_given_up()
            case Fault.STALLS:
                await connection.send(good[: len(good) * 3 // 4])
                await connection.until_given_up()
            case Fault.RESETS:
                await connection.send(good[: len(good) * 3 // 4])
                await asyncio.sleep(0.02)  # so that the half arrives, and not only the reset
                connection.reset()
            case Fault.CLOSES:
                connection.close()
            case Fault.GARBAGE:
                await connection.send(response(200, GARBAGE, Content_Type="text/html"))
            case Fault.EMPTY:
                await connection.send(response(200, b""))
            case Fault.BAD_GATEWAY:
                await connection.send(response(502, GARBAGE, Content_Type="text/html"))
            case Fault.BAD_SIGNATURE:
                await connection.send(self.error(fault, canonical_string(request)))
            case _:
                await connection.send(self.error(fault, 'No.\n{"level": "INFO", "message": "forged"}\n'))

    def subject(self, request: Request) -> str:
        """What a request is about, as far as faults are concerned: the topic or the operation."""
        raise NotImplementedError

    def good(self, request: Request, connection: Connection) -> bytes:
        """The response of a service that works."""
        raise NotImplementedError

    def acknowledged(self, request: Request, connection: Connection) -> None:
        """The good response was sent as a whole."""

    def error(self, fault: Fault, message: str) -> bytes:
        """The response of a service that doesn't."""
        raise NotImplementedError


def canonical_string(request: Request) -> str:
    """What AWS says to a wrong signature: it quotes the signed headers, and the session token is one of them.
    <https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-troubleshooting.html>
    """
    signed = re.findall("SignedHeaders=([^,]+)", request.headers.get("authorization", ""))[0]
    headers = "\n".join(f"{name}:{request.headers[name]}" for name in signed.split(";"))
    return f"The Canonical String for this request should have been\n'{request.method}\n/\n\n{headers}\n\n{signed}\n'"


def nobody_home(listening: bool) -> list[socket.socket]:
    """Holds a port where connections are refused, or, `listening`, where their packets are dropped."""
    held = [socket.socket()]
    held[0].bind(("127.0.0.1", 0))
    if listening:
        # Linux drops what comes to a full queue; ours fills the only place in it.
        held[0].listen(0)
        for _ in range(2):
            held.append(socket.socket())
            held[-1].setblocking(False)
            held[-1].connect_ex(held[0].getsockname())
    return held


@dataclass
class Message:
    """A message as SNS was given it."""

    topic: str
    subject: str
    body: str
    attributes: dict[str, str]
    at: float
    acknowledged: bool = False
    """Whether the function was told that the topic has it."""

    @property
    def uid(self) -> str:
        """What tells a repeat."""
        if self.topic == "findings":
            return json.loads(self.body)["metadata"]["uid"]
        if self.topic == "chat":
            return json.loads(self.body)["id"]
        return re.findall(r"^  This alert: (\S+)$", self.body, re.MULTILINE)[-1]


class Sns(Service):
    """SNS's query protocol. <https://docs.aws.amazon.com/sns/latest/api/API_Publish.html>"""

    CODES = {
        Fault.THROTTLED: (400, "Throttling"),
        Fault.THROTTLED_429: (429, "Throttled"),
        Fault.ERROR_500: (500, "InternalError"),
        Fault.ERROR_503: (503, "ServiceUnavailable"),
        Fault.DENIED: (403, "AuthorizationError"),
        Fault.GONE: (404, "NotFound"),
        Fault.BAD_SIGNATURE: (403, "SignatureDoesNotMatch"),
    }

    def __init__(self, faults: Mapping[str, Schedule] = {}) -> None:
        super().__init__(faults)
        self.messages: list[Message] = []
        self._last: dict[Connection, Message] = {}

    def subject(self, request: Request) -> str:
        return _form(request)["TopicArn"].rpartition(":")[2]

    def good(self, request: Request, connection: Connection) -> bytes:
        form = _form(request)
        names = {key.removesuffix("Name"): name for key, name in form.items() if key.endswith(".Name")}
        attributes = {name: form[f"{entry}Value.StringValue"] for entry, name in names.items()}
        message = Message(self.subject(request), form.get("Subject", ""), form["Message"], attributes, time.monotonic())
        self.messages.append(message)
        self._last[connection] = message
        return response(200, _xml(f"<PublishResult><MessageId>{uuid.uuid4()}</MessageId></PublishResult>", "Publish"))

    def acknowledged(self, request: Request, connection: Connection) -> None:
        self._last[connection].acknowledged = True

    def error(self, fault: Fault, message: str) -> bytes:
        status, code = self.CODES[fault]
        return response(
            status, _xml(f"<Error><Type>Sender</Type><Code>{code}</Code><Message>{message}</Message></Error>", "Error")
        )

    def held(self, topic: str) -> list[Message]:
        """What a topic has taken, and said so."""
        return [message for message in self.messages if message.topic == topic and message.acknowledged]


def _form(request: Request) -> dict[str, str]:
    return {name: values[0] for name, values in parse_qs(request.body.decode(), keep_blank_values=True).items()}


def _xml(inner: str, what: str, namespace: str = "http://sns.amazonaws.com/doc/2010-03-31/") -> bytes:
    end = (
        "<RequestId>0</RequestId>"
        if what == "Error"
        else "<ResponseMetadata><RequestId>0</RequestId></ResponseMetadata>"
    )
    return f'<{what}Response xmlns="{namespace}">{inner}{end}</{what}Response>'.encode()


class Kms(Service):
    """The look-ups of KMS's JSON protocol. <https://docs.aws.amazon.com/kms/latest/APIReference/>"""

    CODES = {
        Fault.THROTTLED: (400, "ThrottlingException"),
        Fault.THROTTLED_429: (429, "Throttled"),
        Fault.ERROR_500: (500, "KMSInternalException"),
        Fault.ERROR_503: (503, "ServiceUnavailableException"),
        Fault.DENIED: (400, "AccessDeniedException"),
        Fault.GONE: (400, "NotFoundException"),
        Fault.BAD_SIGNATURE: (400, "InvalidSignatureException"),
    }

    def __init__(self, faults: Mapping[str, Schedule] = {}) -> None:
        super().__init__(faults)

    def subject(self, request: Request) -> str:
        return request.headers["x-amz-target"].rpartition(".")[2]

    def good(self, request: Request, connection: Connection) -> bytes:
        arn = json.loads(request.body)["KeyId"]
        answers: dict[str, Any] = {
            "DescribeKey": {
                "KeyMetadata": {
                    "KeyId": arn.rpartition("/")[2],
                    "Arn": arn,
                    "KeyState": "Disabled",
                    "Origin": "AWS_KMS",
                    "KeyManager": "CUSTOMER",
                }
            },
            "ListAliases": {
                "Aliases": [{"AliasName": "alias/payments-db", "TargetKeyId": arn.rpartition("/")[2]}],
                "Truncated": False,
            },
            "ListResourceTags": {"Tags": [{"TagKey": "owner", "TagValue": "team-payments"}], "Truncated": False},
            "GetKeyLastUsage": {
                "KeyId": arn,
                "KeyLastUsage": {"Operation": "Decrypt", "Timestamp": 1_790_000_000},
                "TrackingStartDate": 1_780_000_000,
                "KeyCreationDate": 1_770_000_000,
            },
            "ListGrants": {"Grants": [], "Truncated": False},
        }
        body = json.dumps(answers[self.subject(request)]).encode()
        return response(200, body, Content_Type="application/x-amz-json-1.1")

    def error(self, fault: Fault, message: str) -> bytes:
        status, code = self.CODES[fault]
        return response(
            status, json.dumps({"__type": code, "message": message}).encode(), Content_Type="application/x-amz-json-1.1"
        )


class Sts(Service):
    """AssumeRole of STS's query protocol. <https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRole.html>

    `refused` are the accounts without the role, `lying` those for which it answers with another account's session.
    """

    CODES = {
        Fault.THROTTLED: (400, "Throttling"),
        Fault.THROTTLED_429: (429, "Throttled"),
        Fault.ERROR_500: (500, "InternalFailure"),
        Fault.ERROR_503: (503, "ServiceUnavailable"),
        Fault.DENIED: (403, "AccessDenied"),
        Fault.GONE: (403, "AccessDenied"),
        Fault.BAD_SIGNATURE: (403, "SignatureDoesNotMatch"),
    }
    ELSEWHERE = "999999999999"

    def __init__(
        self, faults: Mapping[str, Schedule] = {}, refused: frozenset[str] = frozenset(), lying: frozenset[str] = frozenset()
    ) -> None:
        super().__init__(faults)
        self.refused, self.lying = refused, lying
        self.asked: Counter[str] = Counter()
        """How often each account's role was asked for."""
        self.sessions: dict[str, str] = {}
        """The account of every session token."""

    def subject(self, request: Request) -> str:
        return _form(request)["Action"]

    def good(self, request: Request, connection: Connection) -> bytes:
        form = _form(request)
        _, _, _, _, account, resource = form["RoleArn"].split(":")
        self.asked[account] += 1
        if account in self.refused:
            return self.error(Fault.DENIED, f"not authorized to perform: sts:AssumeRole on resource: {form['RoleArn']}")
        session = Credentials()
        self.sessions[session.token] = account
        named = self.ELSEWHERE if account in self.lying else account
        arn = f"arn:aws:sts::{named}:assumed-{resource}/{form['RoleSessionName']}"
        until = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + int(form["DurationSeconds"])))
        inner = (
            f"<AssumeRoleResult><AssumedRoleUser><AssumedRoleId>AROARIG:{form['RoleSessionName']}</AssumedRoleId>"
            f"<Arn>{arn}</Arn></AssumedRoleUser><Credentials><AccessKeyId>{session.key_id}</AccessKeyId>"
            f"<SecretAccessKey>{session.secret}</SecretAccessKey><SessionToken>{session.token}</SessionToken>"
            f"<Expiration>{until}</Expiration></Credentials></AssumeRoleResult>"
        )
        return response(200, _xml(inner, "AssumeRole", "https://sts.amazonaws.com/doc/2011-06-15/"))

    def error(self, fault: Fault, message: str) -> bytes:
        status, code = self.CODES[fault]
        inner = f"<Error><Type>Sender</Type><Code>{code}</Code><Message>{message}</Message></Error>"
        return response(status, _xml(inner, "Error", "https://sts.amazonaws.com/doc/2011-06-15/"))


# ---- Lambda ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Credentials:
    """Made up on the spot, and easy to find again where they don't belong."""

    key_id: str = field(default_factory=lambda: f"ASIA{secrets.token_hex(8).upper()}")
    secret: str = field(default_factory=lambda: f"rig-secret-{secrets.token_hex(16)}")
    token: str = field(default_factory=lambda: f"rig-token-{secrets.token_hex(64)}")

    def found_in(self, text: str) -> bool:
        """Whether the secret or the token stand there, whole or only begun."""
        return self.secret[:24] in text or self.token[:24] in text


Ended = Literal["answered", "reported", "timed out", "exited"]
"""Whether the function answered, reported an error itself, or was ended or ended before it did either."""


@dataclass(frozen=True)
class Attempt:
    """How an invocation went."""

    ended: Ended
    said: dict[str, Any]
    """The function's answer, or its error."""
    seconds: float
    """From the moment the function was handed the event."""
    began: float


@dataclass(frozen=True)
class Delivery:
    """An asynchronous event with its repeats."""

    attempts: list[Attempt]

    @property
    def succeeded(self) -> bool:
        return self.attempts[-1].ended == "answered"


@dataclass
class Invocation:
    """An event on its way through the runtime API."""

    event: bytes
    id: str
    taken: asyncio.Future[float]
    done: asyncio.Future[tuple[Ended, dict[str, Any]]]


class Function(Server):
    """The binary as Lambda runs it: one process, one event at a time."""

    def __init__(
        self,
        sns: Service,
        kms: Service,
        timeout: float,
        environment: Mapping[str, str] = {},
        repeat_after: float = 0.1,
        binary: Path = BINARY,
    ) -> None:
        super().__init__()
        self._binary = binary
        self.credentials = Credentials()
        self.log: list[tuple[str, str]] = []
        """Every line the process wrote, with `stdout` or `stderr`."""
        self.reports: list[str] = []
        """Everything it told the runtime API."""
        self.failure_queue: list[bytes] = []
        """The events that failed every time."""
        self.asked = asyncio.Event()
        """Set when a function first asks for an event, which ends its start."""
        self._process: asyncio.subprocess.Process | None = None
        self._services = {"SNS": sns, "KMS": kms}
        self._timeout, self._environment, self._repeat_after = timeout, environment, repeat_after
        self._waiting: asyncio.Queue[Invocation] = asyncio.Queue()
        self._current: Invocation | None = None
        self._readers: list[asyncio.Task[None]] = []
        self._one_at_a_time = asyncio.Lock()

    async def __aexit__(self, *exception: object) -> None:
        try:
            await self._end()
        finally:
            await super().__aexit__(*exception)

    async def deliver(self, event: bytes) -> Delivery:
        """Hand it an event as EventBridge does: asynchronously, with Lambda's repeats."""
        attempts: list[Attempt] = []
        request_id = str(uuid.uuid4())
        for turn in range(1 + REPEATS):
            if turn:
                await asyncio.sleep(self._repeat_after)
            attempts.append(await self.invoke(event, request_id))
            if attempts[-1].ended == "answered":
                break
        else:
            self.failure_queue.append(event)
        return Delivery(attempts)

    async def invoke(self, event: bytes, request_id: str) -> Attempt:
        """Hand it an event, once."""
        async with self._one_at_a_time:
            if self._process is None or self._process.returncode is not None:
                await self.start()
            loop = asyncio.get_running_loop()
            invocation = self._current = Invocation(event, request_id, loop.create_future(), loop.create_future())
            self._waiting.put_nowait(invocation)
            began = time.monotonic()
            if await self._first(invocation.taken, LONGEST_INIT):
                began = invocation.taken.result()
                await self._first(invocation.done, began + self._timeout - time.monotonic())
            seconds = time.monotonic() - began
            if invocation.done.done():
                return Attempt(*invocation.done.result(), seconds, began)
            exited = self.process.returncode is not None
            await self._end()
            return Attempt("exited" if exited else "timed out", {"log": self.log[-3:]}, seconds, began)

    async def _first(self, happening: asyncio.Future[Any], seconds: float) -> bool:
        """Whether it happens in time, and before the process ends."""
        end = asyncio.ensure_future(self.process.wait())
        await asyncio.wait({happening, end}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        end.cancel()
        return happening.done()

    @property
    def process(self) -> asyncio.subprocess.Process:
        """The process that was started last."""
        if self._process is None:
            raise RuntimeError("the function was never started")
        return self._process

    async def start(self) -> None:
        """Start the process; the first event does so by itself."""
        self._waiting = asyncio.Queue()  # nobody but this process takes from it
        topics = {f"{name.upper()}_TOPIC_ARN": f"arn:aws:sns:{REGION}:{ACCOUNT}:{name}" for name in TOPICS}
        endpoints = {
            f"AWS_ENDPOINT_URL_{name}": service.url for name, service in self._services.items()
        }
        environment = {
            "AWS_LAMBDA_RUNTIME_API": self.address,
            "AWS_LAMBDA_FUNCTION_NAME": "alert",
            "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
            "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "128",
            "AWS_LAMBDA_LOG_FORMAT": "JSON",
            "AWS_LAMBDA_LOG_GROUP_NAME": "/aws/lambda/alert",
            "AWS_LAMBDA_LOG_STREAM_NAME": "rig",
            "AWS_REGION": REGION,
            "AWS_ACCESS_KEY_ID": self.credentials.key_id,
            "AWS_SECRET_ACCESS_KEY": self.credentials.secret,
            "AWS_SESSION_TOKEN": self.credentials.token,
            **topics,
            **endpoints,
            **self._environment,
        }
        self._process = await asyncio.create_subprocess_exec(
            self._binary,
            env=environment,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            limit=2**24,
        )
        self._readers = [
            asyncio.create_task(self._read("stdout", self.process.stdout)),
            asyncio.create_task(self._read("stderr", self.process.stderr)),
        ]

    async def exit_status(self, seconds: float) -> int | None:
        """How the process ended by itself; None if it hasn't within so many seconds."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self.process.wait(), seconds)
            await asyncio.gather(*self._readers)
        return self.process.returncode

    def freeze(self) -> None:
        """Stop its clock, as Lambda does between two events."""
        os.kill(self.process.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        os.kill(self.process.pid, signal.SIGCONT)

    async def _end(self) -> None:
        if self._process is None:
            return
        with suppress(ProcessLookupError):
            self.process.kill()
        await self.process.wait()
        await asyncio.gather(*self._readers)

    async def _read(self, name: str, stream: asyncio.StreamReader | None) -> None:
        while stream and (line := await stream.readline()):
            self.log.append((name, line.decode(errors="replace").rstrip("\n")))

    async def answer(self, request: Request, connection: Connection) -> None:
        """The runtime API. <https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html>"""
        if request.path == f"{RUNTIME_API}invocation/next":
            self.asked.set()
            invocation = await self._waiting.get()
            invocation.taken.set_result(time.monotonic())
            headers = {
                "Lambda_Runtime_Aws_Request_Id": invocation.id,
                "Lambda_Runtime_Deadline_Ms": str(int((time.time() + self._timeout) * 1000)),
                "Lambda_Runtime_Invoked_Function_Arn": f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:alert",
                "Content_Type": "application/json",
            }
            await connection.send(response(200, invocation.event, **headers))
            return
        self.reports.append(request.body.decode())
        ended: Ended = "answered" if request.path.endswith("/response") else "reported"
        if self._current and request.path.startswith(f"{RUNTIME_API}invocation/{self._current.id}/"):
            self._current.done.set_result((ended, json.loads(request.body)))
        await connection.send(response(202, b'{"status": "OK"}'))


@asynccontextmanager
async def rig(
    sns: Mapping[str, Schedule],
    kms: Mapping[str, Schedule],
    timeout: float,
    tls: bool = False,
    binary: Path = BINARY,
    **environment: str,
) -> AsyncIterator[tuple[Function, Sns, Kms]]:
    """The function with an SNS and a KMS of its own; with `tls` it trusts them unless the environment says otherwise."""
    topics, keys = Sns(sns), Kms(kms)
    if tls:
        topics.tls = keys.tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        topics.tls.load_cert_chain(TLS / "server.pem", TLS / "server-key.pem")
        environment = {"SSL_CERT_FILE": str(TLS / "authority.pem"), **environment}
    async with topics, keys, Function(topics, keys, timeout, environment, binary=binary) as function:
        yield function, topics, keys


def report(what: str, figures: Iterable[tuple[str, object]], wrong: Sequence[str]) -> int:
    """Print what a run came to as a table, and the first of what doesn't fit; its exit status."""
    print(f"| {what} | |\n| --- | --- |")
    for name, figure in figures:
        print(f"| {name} | {figure} |")
    print(f"\n{len(wrong)} mismatches{':' if wrong else '.'}", *wrong[:20], sep="\n  ")
    return 1 if wrong else 0
