#!/bin/sh
# Lints what federation-ca makes with pkilint: the CA, a host's certificate, and the revocation list.
#
#   tests/pkilint.sh target/debug/federation-ca
#
# Ends with 0 where no finding is an error, 1 where one is, and 75 where pkilint cannot be installed now.
set -eu

if [ $# -ne 1 ]; then
    echo "usage: $0 PATH-TO-federation-ca" >&2
    exit 64
fi
program=$1
requirements=$(dirname "$0")/pkilint.txt
venv=${XDG_CACHE_HOME:-$HOME/.cache}/care-federation/pkilint

if ! cmp -s "$requirements" "$venv/installed"; then
    rm -rf "$venv"
    if ! { python3 -m venv "$venv" &&
        "$venv/bin/pip" install --quiet --disable-pip-version-check --require-hashes -r "$requirements"; }; then
        echo "$0: cannot install pkilint into $venv" >&2
        exit 75
    fi
    cp "$requirements" "$venv/installed"
fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# What the linter says of one file. It takes a DNS name of a single label, such as the lab's `vvt`, for a syntax error;
# RFC 1034 section 3.5 does not. That finding is passed over where the names are the lab's, nowhere else.
lint() {
    names=$1 file=$2
    shift 2
    "$@" -f JSON -s ERROR "$file" >"$work/findings" || true
    "$venv/bin/python" - "$names" "$file" "$work/findings" <<'PYTHON'
import json, re, sys
names, file, findings = sys.argv[1:]
passed_over = re.compile(r'Invalid domain name syntax: "[a-z0-9-]+"') if names == "lab" else re.compile("(?!)")
errors = [
    f'{result["node_path"]}: {finding["message"] or finding["code"]}'
    for result in json.load(open(findings))["results"]
    for finding in result["finding_descriptions"]
    if not passed_over.fullmatch(finding["message"] or "")
]
print(f"{file}: {len(errors)} errors", *errors, sep="\n  ")
sys.exit(bool(errors))
PYTHON
}

failed=0
check() {
    names=$1 host=$2
    shift 2
    directory=$work/$names
    "$program" --dir "$directory" init "$@" >/dev/null
    "$program" --dir "$directory" issue "$host" --san "www.$host" --san 127.0.0.1 --san ::1 >/dev/null
    lint "$names" "$directory/ca.pem" "$venv/bin/lint_pkix_cert" lint || failed=1
    lint "$names" "$directory/certs/$host/cert.pem" "$venv/bin/lint_pkix_cert" lint || failed=1
    lint "$names" "$directory/crl.pem" "$venv/bin/lint_crl" lint -t CRL -p PKIX || failed=1
    "$program" --dir "$directory" revoke "$host" --reason key-compromise >/dev/null
    lint "$names" "$directory/crl.pem" "$venv/bin/lint_crl" lint -t CRL -p PKIX || failed=1
}
check public zorg.example.org --name zorg.example.org --name huisarts.example.org --crl-url http://ca.example.org/crl.pem
check lab vvt --name vvt --name huisarts --name apotheek
exit $failed
