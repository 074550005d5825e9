"""Checks what the design says of folders: who may import whom, that the pure parts have no runtime, SDK, clock or randomness, and that a first build
has no AWS client."""
import json
import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
MAY_IMPORT = {
    "events": set(),
    "projections": {"events"},
    "processor": {"events", "projections"},
    "api": {"events", "projections"},
    "weir": {"events", "projections", "processor", "api"},
    "infra": {"weir", "events", "projections", "processor", "api"},
    "emulators": set(),
}
# No runtime, SDK, database or network under the pure parts.
IMPURE_CRATES = re.compile(r"^(tokio|async-std|smol|mio|hyper|axum|aws-.*|redb|fjall|rusqlite|rustix|rand|getrandom|time|chrono)$")
# A newcomer's first build is of one machine's program: what speaks to AWS is built by who asks for it.
AWS_CRATES = re.compile(r"^(aws-.*|rustls|ring)$")
# Nor do the tests of it need a client of AWS or Lambda's runtime.
AWS_CLIENTS = re.compile(r"^(aws-sdk-.*|aws-config|aws_lambda_events|lambda_.*|rustls|ring)$")
# Adapters live behind features; everything else in these crates must not look at the world.
PURE_SOURCES = {"events": ["embedded", "kinesis"], "projections": ["embedded", "dynamodb"]}
IMPURE_WORDS = re.compile(
    r"SystemTime|Instant::now|std::(fs|net|env|process|thread)\b|RandomState|thread_rng|tokio::|println!|eprintln!"
)


def cargo(*arguments):
    return subprocess.run(["cargo", *arguments], cwd=ROOT, check=True, capture_output=True, text=True).stdout


def imports():
    packages = json.loads(cargo("metadata", "--format-version", "1", "--no-deps"))["packages"]
    for package in packages:
        name = package["name"]
        if name not in MAY_IMPORT:
            yield f"{name}: a new package; say in .ci/imports.py what it may import"
            continue
        for dependency in package["dependencies"]:
            ours = dependency["name"] in MAY_IMPORT and dependency["name"] != name
            if ours and dependency["kind"] != "dev" and dependency["name"] not in MAY_IMPORT[name]:
                yield f"{name} imports {dependency['name']}, which the design forbids"


def pure_trees():
    for package in PURE_SOURCES:
        tree = cargo("tree", "-p", package, "-e", "normal", "--no-default-features", "--prefix", "none", "--format", "{p}")
        for line in sorted(set(tree.splitlines())):
            crate = line.split(" ")[0]
            if IMPURE_CRATES.match(crate):
                yield f"{package} without adapters depends on {crate}"


def first_build():
    tree = cargo("tree", "-p", "weir", "-e", "normal,build", "--prefix", "none", "--format", "{p}")
    for crate in sorted({line.split(" ")[0] for line in tree.splitlines() if line}):
        if AWS_CRATES.match(crate):
            yield f"weir without the feature aws depends on {crate}"
    tree = cargo("tree", "--workspace", "-e", "normal,build,dev", "--prefix", "none", "--format", "{p}")
    for crate in sorted({line.split(" ")[0] for line in tree.splitlines() if line}):
        if AWS_CLIENTS.match(crate):
            yield f"cargo test --workspace without features builds {crate}"


def pure_sources():
    for package, adapters in PURE_SOURCES.items():
        for path in sorted((ROOT / package / "src").rglob("*.rs")):
            parts = path.relative_to(ROOT / package / "src").with_suffix("").parts
            if parts[0] in adapters or "tests" in parts or "law" in parts or parts[-1] == "tests":
                continue
            text = path.read_text().split("#[cfg(test)]")[0]
            for number, line in enumerate(text.splitlines(), 1):
                code = line.split("//")[0]
                if IMPURE_WORDS.search(code):
                    yield f"{path.relative_to(ROOT)}:{number}: a pure part looks at the world: {line.strip()}"


findings = [*imports(), *pure_trees(), *first_build(), *pure_sources()]
for finding in findings:
    print(finding)
print(f"{len(findings)} findings")
sys.exit(bool(findings))
