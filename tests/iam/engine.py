"""Node.js and the packages of package-lock.json, which `make permissions` installs, and the engine among them."""

import json
import subprocess
from pathlib import Path

HERE = Path(__file__).parent
PACKAGES = HERE / "node_modules"
NODE = HERE.parents[1] / ".venv-node/bin/node"


def node(*arguments, stdin=""):
    """What Node.js prints."""
    run = subprocess.run([NODE, *arguments], cwd=HERE, input=stdin, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    return run.stdout


def judge(policies, requests):
    """The engine's answers, in the order of the requests (engine.mjs says what they consist of): Allowed,
    ImplicitlyDenied or ExplicitlyDenied; or why a request is none that AWS would know."""
    answers = json.loads(node("engine.mjs", stdin=json.dumps({"policies": policies, "requests": requests})))
    assert len(answers) == len(requests)
    return [answer.get("result") or f"error: {json.dumps(answer['error'])}" for answer in answers]
