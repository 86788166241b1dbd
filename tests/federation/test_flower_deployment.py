"""A real SuperLink and three SuperNodes on loopback, with TLS and registered keys, beside three resident peers."""

from __future__ import annotations

import contextlib
import datetime
import ipaddress
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from safetensors.torch import load_file

from federation.flower.start import write_start
from federation.flower.strategy import Contributed, ServerState, StrategySettings, next_state
from federation.identity import PublicKey, open_identity
from federation.update import open_update
from tests.federation.circle import ALPHA, BASE, FolderDesk, adapter, serving

BIN = Path(sys.executable).parent
ROOT = Path(__file__).resolve().parents[2]
CLIENTS, ROUNDS = 3, 2
pytestmark = pytest.mark.skipif(
    not (BIN / "flower-superlink").exists(),
    reason="Flower is not installed here; run this with the python of an environment of requirements-flower.txt",
)


class Resident(FolderDesk):
    """A peer that answers the fleet's adapter with an update of its own: a tenth of the way to its own adapter."""

    seed: int = 0
    given: int = 0

    def receive(self, author: PublicKey, path: Path) -> None:
        self.now = time.time()
        super().receive(author, path)
        taken = open_update(self.received[-1]).tensors
        self.learn({name: taken[name].clone() for name in taken})

    def learn(self, start: dict[str, torch.Tensor]) -> None:
        self.given += 1
        state = moved(start, self.seed)
        self.publish(state=state, round=self.given, wins=self.seed, created_at_utc=int(time.time()))


def moved(start: dict[str, torch.Tensor], seed: int) -> dict[str, torch.Tensor]:
    goal = adapter(seed)
    return {name: start[name] + 0.1 * (goal[name] - start[name]) for name in start}


def certificates(folder: Path) -> None:
    """A certificate authority, and a server certificate for 127.0.0.1 from it."""
    now = datetime.datetime.now(datetime.UTC)

    def signed(name: str, key: Any, issuer: str, issuer_key: Any, authority: bool) -> bytes:
        usage = x509.KeyUsage(True, False, False, False, False, authority, authority, False, False)
        subject, by = (x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, n)]) for n in (name, issuer))
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(by)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(hours=1))
            .not_valid_after(now + datetime.timedelta(days=1))
            .add_extension(x509.BasicConstraints(authority, None), critical=True)
            .add_extension(usage, critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False)
            .add_extension(
                x509.SubjectAlternativeName(
                    [x509.IPAddress(ipaddress.ip_address("127.0.0.1")), x509.DNSName("localhost")]
                ),
                critical=False,
            )
        )
        return builder.sign(issuer_key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)

    authority, server = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    (folder / "ca.crt").write_bytes(signed("test authority", authority, "test authority", authority, True))
    (folder / "server.crt").write_bytes(signed("127.0.0.1", server, "test authority", authority, False))
    (folder / "server.key").write_bytes(pem(server))


def pem(key: Any) -> bytes:
    kind = serialization.PrivateFormat.TraditionalOpenSSL
    return bytes(key.private_bytes(serialization.Encoding.PEM, kind, serialization.NoEncryption()))


def node_key(folder: Path) -> None:
    """An elliptic-curve key pair as SuperNode authentication takes it."""
    key = ec.generate_private_key(ec.SECP384R1())
    (folder / "node.key").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption())
    )
    public = key.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    (folder / "node.pub").write_bytes(public + b"\n")


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


@contextlib.contextmanager
def running(command: list[str], log: Path, environment: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    """A process of this test, ended with everything that it started."""
    with log.open("wb") as file:
        process = subprocess.Popen(command, stdout=file, stderr=file, env=environment, start_new_session=True)
        try:
            yield process
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, 15)
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, 9)


def until(true: Callable[[], bool], seconds: float, folder: Path) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        if time.monotonic() > deadline:
            logs = "\n".join(f"== {f.name}\n{f.read_text(errors='replace')[-3000:]}" for f in folder.glob("*.log"))
            pytest.fail(f"the fleet did not get there in time\n{logs}")
        time.sleep(0.5)


def test_three_supernodes_with_registered_keys_aggregate_what_their_resident_apps_offer(tmp_path: Path) -> None:
    certificates(tmp_path)
    start = adapter(9)
    write_start(tmp_path / "start.safetensors", start, BASE, ALPHA)
    port = free_port()
    home = tmp_path / "flwr"
    home.mkdir()
    (home / "config.toml").write_text(
        f'[superlink]\ndefault = "fleet"\n\n[superlink.fleet]\naddress = "127.0.0.1:{port}"\n'
        f'root-certificates = "{tmp_path / "ca.crt"}"\n'
    )
    environment = {
        **os.environ,
        "FLWR_HOME": str(home),
        "FLWR_TELEMETRY_ENABLED": "0",
        "PYTHONPATH": str(ROOT),
        "PATH": f"{BIN}:{os.environ['PATH']}",
        "OMP_NUM_THREADS": "1",
    }

    def flwr(*words: str) -> str:
        done = subprocess.run([BIN / "flwr", *words], env=environment, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    superlink = [
        str(BIN / "flower-superlink"), "--port", str(port), "--enable-supernode-auth",
        "--disable-runtime-dependency-installation",
        "--ssl-ca-certfile", str(tmp_path / "ca.crt"), "--ssl-certfile", str(tmp_path / "server.crt"),
        "--ssl-keyfile", str(tmp_path / "server.key"),
    ]  # fmt: skip
    with contextlib.ExitStack() as stack:
        stack.enter_context(running(superlink, tmp_path / "superlink.log", environment))
        until(lambda: answers(port), 120, tmp_path)
        seeds = range(1, CLIENTS + 1)
        for seed in seeds:
            folder = tmp_path / f"node{seed}"
            folder.mkdir()
            fleet = open_identity(folder / "fleet.key")
            resident = Resident(tmp_path / f"resident{seed}", keys={fleet.public})
            resident.seed = seed
            resident.learn(start)
            address = stack.enter_context(serving(resident))
            node_key(folder)
            flwr("supernode", "register", str(folder / "node.pub"), "fleet")
            node = [
                str(BIN / "flower-supernode"), "--superlink", f"127.0.0.1:{port}",
                "--root-certificates", str(tmp_path / "ca.crt"), "--port", str(free_port()),
                "--auth-supernode-private-key", str(folder / "node.key"),
                "--node-config", f'resident="{address}" folder="{folder}"',
            ]  # fmt: skip
            stack.enter_context(running(node, tmp_path / f"node{seed}.log", environment))
        settings = f'folder="{tmp_path}" rounds={ROUNDS} clients={CLIENTS} clients-a-round={CLIENTS}'
        flwr("run", str(ROOT / "federation" / "flower"), "fleet", "--run-config", settings)
        last = tmp_path / f"round-{ROUNDS:04d}.safetensors"
        until(last.exists, 240, tmp_path)
    state = ServerState(start)
    strategy = StrategySettings(rounds=ROUNDS, clients=CLIENTS, clients_a_round=CLIENTS, max_weight=50)
    for _ in range(ROUNDS):
        offered = [Contributed(seed, moved(state.adapter, seed), seed) for seed in seeds]
        state = next_state(state, offered, strategy)
    merged = load_file(last)
    # which node has which number is Flower's choice, so only the order of summation differs
    assert all(torch.allclose(merged[name], state.adapter[name], atol=1e-6) for name in merged)
    assert not torch.allclose(merged[name := next(iter(merged))], start[name], atol=1e-3)


def answers(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False
