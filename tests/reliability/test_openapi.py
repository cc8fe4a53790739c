"""The OpenAPI page says all that the server of a predictor takes and answers: schemathesis asks it by that page."""

import subprocess
import sys
from pathlib import Path

import pytest
from soak import HEADERS, Server

SCHEMATHESIS = Path(sys.executable).with_name("schemathesis")
NO_PICTURE = "positive_data_acceptance"  # no schema says which bytes are a picture


@pytest.mark.reliability
def test_every_answer_is_as_the_page_says(place, known, tmp_path):
    server = Server(tmp_path, "serve", place / "predictor", "--learner", place / "run")
    command = [
        SCHEMATHESIS,
        "run",
        f"{server.url}/openapi.json",
        "--header",
        f"Authorization: {HEADERS['Authorization']}",
    ]
    command += ["--max-examples", "300", "--seed", "1", "--exclude-checks", NO_PICTURE]
    asked = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=300)
    server.stop()
    print(asked.stdout.partition("Test cases:")[2])
    assert asked.returncode == 0, asked.stdout + asked.stderr
    assert "Tested: 5" in asked.stdout
