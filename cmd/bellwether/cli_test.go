package main

import (
	"bytes"
	"context"
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/bellwether-opamp/bellwether/internal/app"
)

const cliManifest = `apiVersion: bellwether.dev/v1alpha1
kind: Rollout
metadata: {name: edge}
spec:
  selector: {matchLabels: {app: edge}}
  config: [config.yaml]
  waves: [{name: canary, size: 1}]
`

const cliConfig = `receivers: {nop: {}}
exporters: {nop: {}}
service: {pipelines: {traces: {receivers: [nop], exporters: [nop]}}}
`

// cli is a server that runs, and a repository that is good.
func cli(t *testing.T) (server, good string) {
	t.Helper()
	good = t.TempDir()
	write(t, good, "rollout.yaml", cliManifest)
	write(t, good, "config.yaml", cliConfig)
	a, err := app.Start(t.Context(), app.Config{
		Git: good, DataDir: filepath.Join(t.TempDir(), "data"),
		ListenOpAMP: "127.0.0.1:0", ListenHTTP: "127.0.0.1:0", ListenAdmin: "127.0.0.1:0",
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	server = "http://" + a.Addr(app.HTTP)
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for deadline := time.After(20 * time.Second); ; {
		var out bytes.Buffer
		if run([]string{"describe", "rollout", "edge", "--server", server}, &out, &out) == 0 {
			return server, good
		}
		select {
		case <-ticker.C:
		case <-deadline:
			t.Fatalf("no rollout within 20 s: %s", out.String())
		}
	}
}

// Every command says yes with 0, no with 1, and 2 when it could not be asked;
// data is on stdout, and as JSON when that is wanted.
func TestCommands(t *testing.T) {
	server, good := cli(t)
	bad := t.TempDir()
	write(t, bad, "rollout.yaml", strings.Replace(cliManifest, "size: 1", "size: many", 1))
	write(t, bad, "config.yaml", cliConfig)
	const nowhere = "http://127.0.0.1:1"
	for _, c := range []struct {
		args string
		code int
		json bool
		out  string // part of stdout
		err  string // part of stderr
	}{
		{args: "validate " + good, code: 0},
		{args: "validate " + bad, code: exitNo, out: "rollout.yaml:7:"},
		{args: "validate " + filepath.Join(bad, "none"), code: exitUsage, err: "none"},
		{args: "get rollouts", code: 0, out: "edge"},
		{args: "get rollouts -o json", code: 0, json: true, out: `"edge"`},
		{args: "get agents -o json", code: 0, json: true},
		{args: "get revisions -o json", code: 0, json: true, out: `"accepted"`},
		{args: "describe rollout edge -o json", code: 0, json: true, out: `"edge"`},
		{args: "describe rollout none", code: exitNo, err: "none"},
		{args: "describe agent 00000000-0000-0000-0000-000000000001", code: exitNo},
		{args: "pause edge", code: 0},
		{args: "resume edge", code: 0},
		{args: "pause none", code: exitNo, err: "none"},
		{args: "get rollouts --server " + nowhere, code: exitUsage, err: "127.0.0.1:1"},
		{args: "get rollouts -o xml", code: exitUsage, err: "xml"},
		{args: "get nonsense", code: exitUsage},
		{args: "nonsense", code: exitUsage, err: "nonsense"},
		{args: "version", code: 0},
	} {
		args := strings.Fields(c.args)
		switch args[0] {
		case "get", "describe", "pause", "resume":
			if !strings.Contains(c.args, "--server") {
				args = append(args, "--server", server)
			}
		}
		var stdout, stderr bytes.Buffer
		code := run(args, &stdout, &stderr)
		if code != c.code || !strings.Contains(stdout.String(), c.out) || !strings.Contains(stderr.String(), c.err) {
			t.Errorf("%s: code %d, want %d\nstdout: %sstderr: %s", c.args, code, c.code, stdout.String(), stderr.String())
		}
		if c.json && !json.Valid(stdout.Bytes()) {
			t.Errorf("%s: not JSON: %s", c.args, stdout.String())
		}
	}
}
