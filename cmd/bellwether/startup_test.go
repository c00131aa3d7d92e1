package main

import (
	"bytes"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/bellwether-opamp/bellwether/internal/app"
)

// anywhere are flags that make a server start wherever there is room.
func anywhere(dir string, more ...string) []string {
	return append([]string{
		"serve", "--git", filepath.Join(dir, "fleet"), "--data-dir", filepath.Join(dir, "data"),
		"--listen-opamp", "127.0.0.1:0", "--listen-http", "127.0.0.1:0", "--listen-admin", "127.0.0.1:0",
	}, more...)
}

// mistake is one way to start a server wrongly.
type mistake struct {
	prepare func(t *testing.T, dir string)
	args    func(dir string) []string
	want    []string // parts of the one line
}

// mistakes returns all of them; taken is an address that somebody else has.
func mistakes(taken string) map[string]mistake {
	return map[string]mistake{
		"no repository": {
			args: func(string) []string { return []string{"serve"} },
			want: []string{"no fleet repository", "--git"},
		},
		"unknown flag": {
			args: func(dir string) []string { return anywhere(dir, "--polll", "3s") },
			want: []string{"unknown flag: --polll"},
		},
		"bad value of a flag": {
			args: func(dir string) []string { return anywhere(dir, "--poll", "often") },
			want: []string{`invalid argument "often" for "--poll"`},
		},
		"unknown setting in the file": {
			prepare: func(t *testing.T, dir string) { write(t, dir, "bw.yaml", "poll: 5s\ngit-brunch: main\n") },
			args:    func(dir string) []string { return anywhere(dir, "--config", filepath.Join(dir, "bw.yaml")) },
			want:    []string{"bw.yaml:2:1: setting: ", `"git-brunch"`},
		},
		"bad value in the file": {
			prepare: func(t *testing.T, dir string) { write(t, dir, "bw.yaml", "poll: often\n") },
			args:    func(dir string) []string { return anywhere(dir, "--config", filepath.Join(dir, "bw.yaml")) },
			want:    []string{"bw.yaml:1:1: setting: ", "often"},
		},
		"no such file of settings": {
			args: func(dir string) []string { return anywhere(dir, "--config", filepath.Join(dir, "none.yaml")) },
			want: []string{"--config", "none.yaml", "no such file"},
		},
		"port taken": {
			args: func(dir string) []string { return anywhere(dir, "--listen-http", taken) },
			want: []string{"--listen-http", taken, "address already in use"},
		},
		"not loopback and nobody authenticated": {
			args: func(dir string) []string { return anywhere(dir, "--listen-opamp", "0.0.0.0:0") },
			want: []string{"--listen-opamp", "--agent-token-file", "--insecure"},
		},
		"unreadable token": {
			args: func(dir string) []string {
				return anywhere(dir, "--agent-token-file", filepath.Join(dir, "token"))
			},
			want: []string{"--agent-token-file", "no such file"},
		},
		"unreadable key": {
			args: func(dir string) []string {
				return anywhere(dir, "--git", "ssh://git@127.0.0.1/fleet.git", "--git-ssh-key", filepath.Join(dir, "id"))
			},
			want: []string{"id", "no such file"},
		},
		"a key that is none": {
			prepare: func(t *testing.T, dir string) { write(t, dir, "id", "not a key") },
			args: func(dir string) []string {
				return anywhere(dir, "--git", "ssh://git@127.0.0.1/fleet.git", "--git-ssh-key", filepath.Join(dir, "id"))
			},
			want: []string{"id", "key"},
		},
		"data directory of a newer version": {
			prepare: func(t *testing.T, dir string) { makeNewer(t, dir) },
			args:    func(dir string) []string { return anywhere(dir) },
			want:    []string{"data", "newer"},
		},
		"data directory locked": {
			prepare: func(t *testing.T, dir string) { lockData(t, dir) },
			args:    func(dir string) []string { return anywhere(dir) },
			want:    []string{"is in use: process "},
		},
		"data directory is a file": {
			prepare: func(t *testing.T, dir string) { write(t, dir, "data", "") },
			args:    func(dir string) []string { return anywhere(dir) },
			want:    []string{"data", "not a directory"},
		},
	}
}

// Start-up mistakes end with one clear line and exit code 2.
func TestStartUpMistakes(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = taken.Close() }()
	for name, test := range mistakes(taken.Addr().String()) {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			write(t, dir, "fleet/README.md", "nothing yet\n")
			if test.prepare != nil {
				test.prepare(t, dir)
			}
			var stdout, stderr bytes.Buffer
			code := run(test.args(dir), &stdout, &stderr)
			if code != exitUsage {
				t.Errorf("exit code %d, want %d", code, exitUsage)
			}
			if stdout.Len() > 0 {
				t.Errorf("stdout: %s", stdout.String())
			}
			line := strings.TrimSpace(lastOf(stderr.String()))
			for _, part := range test.want {
				if !strings.Contains(line, part) {
					t.Errorf("stderr does not say %q:\n%s", part, stderr.String())
				}
			}
			if strings.Count(stderr.String(), "bellwether: ") != 1 {
				t.Errorf("not one line for the person:\n%s", stderr.String())
			}
		})
	}
}

func lastOf(text string) string {
	_, last, _ := strings.Cut(text, "bellwether: ")
	return last
}

func write(t *testing.T, dir, file, body string) {
	t.Helper()
	path := filepath.Join(dir, file)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(body), 0o600); err != nil {
		t.Fatal(err)
	}
}

func start(t *testing.T, dir string) *app.App {
	t.Helper()
	running, err := app.Start(t.Context(), app.Config{
		Git: filepath.Join(dir, "fleet"), DataDir: filepath.Join(dir, "data"),
		ListenOpAMP: "127.0.0.1:0", ListenHTTP: "127.0.0.1:0", ListenAdmin: "127.0.0.1:0",
	})
	if err != nil {
		t.Fatal(err)
	}
	return running
}

// makeNewer lets a data directory look as if a later version had written it.
func makeNewer(t *testing.T, dir string) {
	t.Helper()
	start(t, dir).Close()
	path := filepath.Join(dir, "data", "store", "store.json")
	body, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	newer := strings.Replace(string(body), `"version":1`, `"version":1000`, 1)
	if newer == string(body) {
		t.Fatalf("no version in %s", body)
	}
	if err := os.WriteFile(path, []byte(newer), 0o600); err != nil {
		t.Fatal(err)
	}
}

func lockData(t *testing.T, dir string) {
	t.Helper()
	t.Cleanup(start(t, dir).Close)
}
