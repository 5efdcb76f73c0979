"""`mnist-hpo serve`: its options, and its end."""

import os
import socket
import subprocess
from pathlib import Path

import pytest
from command import ENVIRONMENT, PROGRAM, TIMEOUT_S, Outcome
from served import TOKEN, read_response, start_command

BLANK = [[0] * 784]


def call(*arguments: str, **environment: str) -> Outcome:
    ended = subprocess.run(
        [PROGRAM, "serve", *arguments],
        env=ENVIRONMENT | environment,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
    )
    return Outcome(ended.returncode, ended.stdout, ended.stderr)


def assert_refused(outcome: Outcome, *fragments: str) -> None:
    assert (outcome.code, outcome.out) == (2, ""), outcome
    for fragment in ("error: ", *fragments):
        assert fragment in outcome.err


def test_a_port_in_use_is_reported(model_folder: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert_refused(call(f"{model_folder}/", "--port", port), port, "taken", "--port")


def test_a_weak_token_is_refused(model_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("short\n")
    assert_refused(call(f"{model_folder}/", MNIST_HPO_SERVE_TOKEN="short"), "MNIST_HPO_SERVE_TOKEN", "16")
    assert_refused(call(f"{model_folder}/", "--token-file", str(tmp_path / "token")), "token", "16")
    assert_refused(call(f"{model_folder}/", "--token-file", str(tmp_path / "none")), "none", "cannot be read")


def test_what_is_no_model_is_refused(tmp_path: Path) -> None:
    assert_refused(call(f"{tmp_path}/", "--port", "0"), str(tmp_path), "not a model")


def test_a_folder_has_no_alias_to_follow(model_folder: Path) -> None:
    assert_refused(call(f"{model_folder}/", "--port", "0", "--reload-alias"), "--reload-alias", "study")


@pytest.mark.slow
def test_on_all_addresses_a_service_without_a_token_warns(model_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "token").write_text(f"{TOKEN}\n")
    everywhere = f"{model_folder}/", "--host", "0.0.0.0"
    served = start_command(*everywhere)
    assert served.predict(BLANK, Host="any.example").ok
    assert served.stop() == 0
    assert "warning: everyone" in served.err()
    served = start_command(*everywhere, "--token-file", str(tmp_path / "token"), "--allow-host", "one.example")
    header = {"Authorization": f"Bearer {TOKEN}"}
    assert served.predict(BLANK, Host="one.example").status_code == 401
    assert served.predict(BLANK, Host="one.example", **header).ok
    assert served.predict(BLANK, Host="any.example", **header).status_code == 421
    assert served.stop() == 0
    assert "warning" not in served.err()
    assert TOKEN not in served.err()


@pytest.mark.slow
def test_without_readers_of_its_log_the_service_answers(model_folder: Path) -> None:
    """A pipe that nobody reads must stop no request: it is full after 64 kB."""
    reader, writer = os.pipe()
    process = subprocess.Popen(
        [PROGRAM, "serve", f"{model_folder}/", "--port", "0"],
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=writer,
        text=True,
    )
    os.close(writer)
    assert process.stdout is not None
    port = int(process.stdout.readline().rstrip().rstrip("/").rpartition(":")[2])
    with socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT_S) as connection:
        for _ in range(1000):
            connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert read_response(connection)[0] == 200
    process.terminate()
    assert process.wait(TIMEOUT_S) == 0
    os.close(reader)
