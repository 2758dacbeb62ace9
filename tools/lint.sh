#!/bin/sh
# SPDX-License-Identifier: Apache-2.0

# Checks the sources (make lint): all that golangci-lint with depguard would look at, by single tools, which are quicker to
# build. Their versions are pinned in tools/go.mod, the errors that may be dropped are in tools/errcheck.txt, and
# internal/rules says which package may import which. The first run builds the tools.
set -u
cd "$(dirname "$0")/.."
GO=${GO:-go}
module=github.com/weaveplugin/weave
vulnerabilities=https://vuln.go.dev
failed=0

# check COMMAND... runs a command, which must succeed and find nothing to print.
check() {
	if ! findings=$("$@") || [ -n "$findings" ]; then
		printf '%s' "$*" | cut -c 1-80
		printf '%s\n' "$findings"
		failed=1
	fi
}
tool() { "$GO" tool -modfile=tools/go.mod "$@"; }
files() { git grep -Il --untracked '' -- "$@"; }

check gofmt -l .
check "$GO" vet ./...
check "$GO" vet -tags docs ./...
check tool staticcheck ./...
check tool errcheck -exclude tools/errcheck.txt ./...
check tool unparam ./...
# Imports come in three groups: the standard library, other modules, this module.
check tool goimports -l -local "$module" $(files '*.go' ':!*/testdata/*')
# The misspelled word is part of a test. Libraries of the web page are others' business.
check tool misspell -error -i contianer $(files ':!plugin/page/files/lib')
"$GO" test ./internal/rules || failed=1

if curl -sf -o /dev/null --max-time 3 "$vulnerabilities/index/db.json"; then
	tool govulncheck -db "$vulnerabilities" ./... || failed=1
else
	echo "govulncheck: skipped, since its database at $vulnerabilities can't be reached from here"
fi
exit $failed
