#!/bin/sh
# Builds the Collector and the OpAMP Supervisor the end-to-end tests run into
# bin/, once: the binaries are kept until go.mod, go.sum, a source file, the Go
# release or this script changes. Cold it takes four to six minutes and 1 GB of
# Go caches; it skips in milliseconds. Needs go, and sha256sum or shasum.
set -eu

cd "$(dirname "$0")"

sum() {
	if command -v sha256sum >/dev/null 2>&1; then sha256sum; else shasum -a 256; fi
}

supervisor=github.com/open-telemetry/opentelemetry-collector-contrib/cmd/opampsupervisor
key=$({ cat go.mod go.sum build.sh otelcol/*.go; go env GOVERSION GOOS GOARCH; } | sum | cut -d' ' -f1)

if [ -x bin/otelcol ] && [ -x bin/opampsupervisor ] && [ "$(cat bin/key 2>/dev/null)" = "$key" ]; then
	echo "test/agents: bin/ is up to date"
	exit 0
fi

export CGO_ENABLED=0 GOFLAGS=-mod=readonly GOWORK=off
mkdir -p bin
rm -f bin/key

echo "test/agents: 1/3 downloading modules (about 130 MB when none are cached)"
go mod download
echo "test/agents: 2/3 compiling the Collector (minutes, the first time)"
go build -trimpath -buildvcs=false -ldflags="-s -w" -o bin/otelcol ./otelcol
echo "test/agents: 3/3 compiling the Supervisor"
go build -trimpath -buildvcs=false -ldflags="-s -w" -o bin/opampsupervisor "$supervisor"
echo "$key" >bin/key
echo "test/agents: built $(ls bin | grep -v key | tr '\n' ' ')in test/agents/bin"
