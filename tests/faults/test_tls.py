"""TLS as the function speaks it: which certificates it trusts, and what becomes of an alert when it trusts none."""

from collections.abc import Callable
from pathlib import Path

import pytest

from local.rig.faults import EVENT
from local.rig import TLS, Function, Kms, Sns


def test_named_file_is_trusted(with_rig: Callable[..., None]) -> None:
    async def test(function: Function, sns: Sns, kms: Kms) -> None:
        assert (await function.deliver(EVENT)).succeeded
        assert len(sns.held("alerts")) == len(sns.held("findings")) == 1
        assert "alias/payments-db" in sns.held("alerts")[0].subject, "the look-ups went through too"

    with_rig(test, tls=True)


@pytest.mark.parametrize(
    ("trusted", "says"),
    [
        ("/no/such/file.pem", "no native root CA certificates found"),
        (str(TLS), "no native root CA certificates found"),
        (str(TLS / "server-key.pem"), "no native root CA certificates found"),
        (str(TLS / "amazon-root-ca-3.pem"), None),
    ],
    ids=["missing", "a folder", "without a certificate", "another authority"],
)
def test_server_that_is_not_trusted_gets_nothing_and_the_event_is_kept(
    with_rig: Callable[..., None], trusted: str, says: str | None
) -> None:
    async def test(function: Function, sns: Sns, kms: Kms) -> None:
        delivery = await function.deliver(EVENT)
        assert not delivery.succeeded and function.failure_queue == [EVENT]
        assert not sns.messages and not kms.tries
        assert "invalid peer certificate: UnknownIssuer" in delivery.attempts[0].said["errorMessage"]
        assert says is None or any(says in line for _, line in function.log)

    with_rig(test, tls=True, SSL_CERT_FILE=trusted)


@pytest.mark.skipif(not Path("/etc/ssl/certs").exists(), reason="this system keeps its certificates elsewhere")
def test_authority_that_the_system_does_not_know_is_not_trusted(with_rig: Callable[..., None]) -> None:
    async def test(function: Function, sns: Sns, kms: Kms) -> None:
        assert not (await function.deliver(EVENT)).succeeded
        assert not sns.messages

    with_rig(test, tls=True, SSL_CERT_FILE="", SSL_CERT_DIR="/etc/ssl/certs")
