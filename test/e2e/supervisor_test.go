//go:build e2e

package e2e

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// supervisor is one OpAMP Supervisor with its Collector, which may be stopped and
// started again with its storage.
type supervisor struct {
	t      *testing.T
	name   string
	dir    string // supervisor.yaml, supervisor.log, storage/
	canary bool
	proc   *process
}

// applyTimeout is how long a Supervisor watches a new config before it says
// APPLIED: always the full time.
const applyTimeout = 3 * time.Second

func newSupervisor(t *testing.T, dir, endpoint string, canary bool) *supervisor {
	t.Helper()
	s := &supervisor{t: t, name: filepath.Base(dir), dir: dir, canary: canary}
	ring := "main"
	if canary {
		ring = "canary"
	}
	if err := os.MkdirAll(s.storage(), 0o755); err != nil {
		t.Fatal(err)
	}
	config := fmt.Sprintf(`server: {endpoint: %q}
capabilities:
  accepts_remote_config: true
  reports_remote_config: true
  reports_effective_config: true
  reports_health: true
  reports_heartbeat: true
  reports_available_components: true
  reports_own_metrics: false
agent:
  executable: %q
  args: ["--set=service.telemetry.metrics.level=none"]
  bootstrap_timeout: 60s
  config_apply_timeout: %v
  description:
    identifying_attributes: {service.namespace: e2e}
    non_identifying_attributes: {ring: %s, e2e.name: %s}
storage: {directory: %q}
telemetry: {logs: {level: debug, output_paths: [%q]}}
`, endpoint, programs(t).collector, applyTimeout, ring, s.name, s.storage(), s.log())
	if err := os.WriteFile(filepath.Join(dir, "supervisor.yaml"), []byte(config), 0o644); err != nil {
		t.Fatal(err)
	}
	return s
}

func (s *supervisor) storage() string { return filepath.Join(s.dir, "storage") }
func (s *supervisor) log() string     { return filepath.Join(s.dir, "supervisor.log") }

func (s *supervisor) start() {
	s.t.Helper()
	out, err := os.OpenFile(filepath.Join(s.dir, "output.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		s.t.Fatal(err)
	}
	defer out.Close() // the child has its own copy
	s.proc, err = launch(out, programs(s.t).supervisor, "--config", filepath.Join(s.dir, "supervisor.yaml"))
	if err != nil {
		s.t.Fatal(err)
	}
}

// interrupt stops the Supervisor in the only way it stops its Collector too.
func (s *supervisor) interrupt() error {
	if !s.proc.runs() {
		return fmt.Errorf("the Supervisor %s had ended by itself: %v\n%s", s.name, s.proc.cmd.ProcessState,
			tail(filepath.Join(s.dir, "output.log"), 5))
	}
	if err := s.proc.stop(syscall.SIGINT, 30*time.Second); err != nil {
		return fmt.Errorf("the Supervisor %s: %w", s.name, err)
	}
	return nil
}

// entry is a line of the Supervisor's log.
type entry struct {
	TS   float64 `json:"ts"`
	Msg  string  `json:"msg"`
	Hash string  `json:"hash"`
	PID  int     `json:"pid"`
}

func (e entry) at() time.Time { return time.UnixMicro(int64(e.TS * 1e6)) }

// entries returns the lines of the log with this message, oldest first.
func (s *supervisor) entries(msg string) []entry {
	s.t.Helper()
	text, err := os.ReadFile(s.log())
	if err != nil {
		s.t.Fatal(err)
	}
	var found []entry
	for line := range bytes.Lines(text) {
		var e entry
		if !bytes.Contains(line, []byte(msg)) || json.Unmarshal(line, &e) != nil || e.Msg != msg {
			continue // also a last line that is not whole yet
		}
		found = append(found, e)
	}
	return found
}

// offers returns every remote config the Supervisor has received in all of its
// lives, oldest first. Hash is what came over the wire, in hexadecimal.
func (s *supervisor) offers() []entry { return s.entries("Received remote config from server") }

// offersOf counts the offers of one config hash.
func (s *supervisor) offersOf(hash string) int {
	s.t.Helper()
	n := 0
	for _, o := range s.offers() {
		if o.Hash == hash {
			n++
		}
	}
	return n
}

// stored reports whether the remote config on the Supervisor's disk, which is the
// last one it received, carries the hash.
func (s *supervisor) stored(hash string) bool {
	s.t.Helper()
	want, err := hex.DecodeString(hash)
	if err != nil {
		s.t.Fatal(err)
	}
	raw, err := os.ReadFile(filepath.Join(s.storage(), "last_recv_remote_config.dat"))
	if errors.Is(err, os.ErrNotExist) {
		return false
	}
	if err != nil {
		s.t.Fatal(err)
	}
	return bytes.Contains(raw, want)
}

// runsVersion reports whether the config the Supervisor last gave its Collector is
// the one made by [good] for the version.
func (s *supervisor) runsVersion(version string) bool {
	s.t.Helper()
	text, err := os.ReadFile(filepath.Join(s.storage(), "effective.yaml"))
	if err != nil {
		s.t.Fatal(err)
	}
	return strings.Contains(string(text), "e2e.version: "+version+"\n")
}

// uid returns the instance uid, or "" as long as the Supervisor has none.
func (s *supervisor) uid() string {
	text, err := os.ReadFile(filepath.Join(s.storage(), "persistent_state.yaml"))
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(text)) {
		if v, ok := strings.CutPrefix(line, "instance_id:"); ok {
			return strings.Trim(strings.TrimSpace(v), `"'`)
		}
	}
	return ""
}

// killCollector ends the Collector as an out-of-memory killer would.
func (s *supervisor) killCollector() {
	s.t.Helper()
	started := s.entries("Agent process started")
	if len(started) == 0 {
		s.t.Fatalf("the Supervisor %s never started a Collector", s.name)
	}
	if err := syscall.Kill(started[len(started)-1].PID, syscall.SIGKILL); err != nil {
		s.t.Fatalf("killing the Collector of %s: %v", s.name, err)
	}
}
