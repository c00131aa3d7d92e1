package main

import (
	"bufio"
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/bellwether-opamp/bellwether/internal/fleet"
	"github.com/bellwether-opamp/bellwether/internal/sim"
	"github.com/bellwether-opamp/bellwether/internal/web"
	"github.com/bellwether-opamp/bellwether/rollout"
)

// crash is a world in which the server is a real process that is killed again and
// again, while the agents and the repository live on.
type crash struct {
	t      *testing.T
	repo   string
	args   []string
	client *web.Client
	agents *sim.Fleet
	random *rand.Rand
	kills  int
	server *exec.Cmd
	log    string
}

const crashAgents = 12

const crashManifest = `apiVersion: bellwether.dev/v1alpha1
kind: Rollout
metadata: {name: edge}
spec:
  selector: {matchLabels: {service.name: otelcol-edge}}
  config: [edge.yaml]
  waves: [{name: canary, size: 2, bake: 200ms, onFailure: rollback}]
  maxUnavailable: 50%
  minHealthyTime: 100ms
  healthyDeadline: 30s
  progressDeadline: 2m
`

func crashConfig(n int) string {
	return fmt.Sprintf(`receivers: {nop: {}}
processors: {batch: {send_batch_size: %d}}
exporters: {debug: {}}
service: {pipelines: {traces: {receivers: [nop], processors: [batch], exporters: [debug]}}}
`, 1000+n)
}

// TestKillAtAnyMomentLosesNothing kills a real server at random moments, at least
// 50 times, while ten good commits and a bad one are rolled out. What was acted on
// is never lost: every agent is offered every good config exactly once and in the
// order of the commits, the bad one reaches only canaries, once, and they go home.
func TestKillAtAnyMomentLosesNothing(t *testing.T) {
	if testing.Short() {
		t.Skip("kills a real process for a minute; run without -short")
	}
	c := newCrash(t)
	const rounds, killsEach = 10, 5
	var targets []fleet.Hash
	for n := range rounds {
		c.commit(n, crashConfig(n))
		for range killsEach {
			c.startAndKill()
		}
		r := c.startAndWait(func(r web.Rollout) bool {
			return r.Phase == rollout.Completed && r.Subject == subject(n) && c.allRun(r.Target)
		})
		targets = append(targets, r.Target)
		c.stop()
	}
	c.checkGood(targets)

	c.commit(rounds, strings.ReplaceAll(crashConfig(rounds), "debug", "carrier_pigeon"))
	for range killsEach {
		c.startAndKill()
	}
	r := c.startAndWait(func(r web.Rollout) bool { return r.Phase == rollout.RolledBack })
	c.checkBad(r, targets[rounds-1])
	c.stop()
	t.Logf("%d kills; every agent was offered %d good configs once each, in order", c.kills, rounds)
}

func subject(n int) string { return fmt.Sprintf("commit %d", n) }

func newCrash(t *testing.T) *crash {
	dir := t.TempDir()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	c := &crash{t: t, repo: filepath.Join(dir, "fleet"), random: rand.New(rand.NewPCG(seed, 0)), log: filepath.Join(dir, "log")}
	opamp, api := freeAddress(t), freeAddress(t)
	c.args = []string{
		"serve", "--git", c.repo, "--poll", "1s", "--data-dir", filepath.Join(dir, "data"),
		"--listen-opamp", opamp, "--listen-http", api, "--listen-admin", "127.0.0.1:0",
	}
	c.client = &web.Client{Server: "http://" + api}
	if err := os.Mkdir(c.repo, 0o755); err != nil {
		t.Fatal(err)
	}
	c.git("init", "--quiet", "--initial-branch=main")
	c.write("rollout.yaml", crashManifest)

	refuse, err := sim.ParseFault("contains(carrier_pigeon):refuse")
	if err != nil {
		t.Fatal(err)
	}
	c.agents, err = sim.New(sim.FleetConfig{
		URL: "ws://" + opamp + "/v1/opamp", Count: crashAgents, Seed: 1, Faults: []sim.Rule{refuse}, Record: true,
		ApplyTime: 50 * time.Millisecond, Reconnect: 20 * time.Millisecond,
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); _ = c.agents.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done; c.kill() })
	return c
}

// freeAddress returns a loopback address that was free a moment ago: the agents
// must find the server at the same place after each restart.
func freeAddress(t *testing.T) string {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ln.Close() }()
	return ln.Addr().String()
}

func (c *crash) git(args ...string) {
	c.t.Helper()
	cmd := exec.Command("git", args...)
	cmd.Dir = c.repo
	cmd.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL="+os.DevNull, "GIT_CONFIG_SYSTEM="+os.DevNull,
		"GIT_AUTHOR_NAME=t", "GIT_AUTHOR_EMAIL=t@example.com", "GIT_COMMITTER_NAME=t", "GIT_COMMITTER_EMAIL=t@example.com")
	if out, err := cmd.CombinedOutput(); err != nil {
		c.t.Fatalf("git %v: %v\n%s", args, err, out)
	}
}

func (c *crash) write(file, body string) {
	c.t.Helper()
	if err := os.WriteFile(filepath.Join(c.repo, file), []byte(body), 0o644); err != nil {
		c.t.Fatal(err)
	}
}

func (c *crash) commit(n int, config string) {
	c.t.Helper()
	c.write("edge.yaml", config)
	c.git("add", "--all")
	c.git("commit", "--quiet", "--message", subject(n))
}

// start returns once the server listens.
func (c *crash) start() {
	c.t.Helper()
	c.server = exec.Command(os.Args[0], c.args...)
	c.server.Env = append(os.Environ(), "BELLWETHER_TEST_MAIN=1")
	stderr, err := c.server.StderrPipe()
	if err != nil {
		c.t.Fatal(err)
	}
	if err := c.server.Start(); err != nil {
		c.t.Fatal(err)
	}
	log, err := os.OpenFile(c.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		c.t.Fatal(err)
	}
	listening := make(chan bool, 1)
	go func() {
		defer func() { _ = log.Close() }()
		lines := bufio.NewScanner(stderr)
		for lines.Scan() {
			_, _ = fmt.Fprintln(log, lines.Text())
			if strings.Contains(lines.Text(), "msg=listening surface=admin") {
				listening <- true
			}
		}
		close(listening)
	}()
	if !<-listening {
		c.fatal("the server did not start")
	}
}

func (c *crash) kill() {
	if c.server != nil {
		_ = c.server.Process.Kill()
		_ = c.server.Wait()
		c.server = nil
	}
}

// stop ends the server as a service manager would.
func (c *crash) stop() {
	c.t.Helper()
	_ = c.server.Process.Signal(os.Interrupt)
	if err := c.server.Wait(); err != nil {
		c.fatal("the server did not stop cleanly: %v", err)
	}
	c.server = nil
}

// startAndKill gives the server a random while, from less than its first tick to
// long enough to finish a wave.
func (c *crash) startAndKill() {
	c.t.Helper()
	c.start()
	<-time.After(time.Duration(c.random.ExpFloat64() * float64(200*time.Millisecond)))
	c.kill()
	c.kills++
}

func (c *crash) startAndWait(done func(web.Rollout) bool) web.Rollout {
	c.t.Helper()
	c.start()
	ctx, cancel := context.WithTimeout(c.t.Context(), time.Minute)
	defer cancel()
	ticker := time.NewTicker(50 * time.Millisecond)
	defer ticker.Stop()
	var last web.Rollout
	for {
		if r, err := c.client.Rollout(ctx, "edge"); err == nil {
			if last = r; done(r) {
				return r
			}
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			c.fatal("not there within a minute; it says %s", sentence(last))
		}
	}
}

// allRun reports whether every agent says it runs h.
func (c *crash) allRun(h fleet.Hash) bool {
	for _, a := range c.agents.Agents() {
		if a.Running.Config != h {
			return false
		}
	}
	return true
}

func (c *crash) fatal(format string, args ...any) {
	c.t.Helper()
	log, _ := os.ReadFile(c.log)
	c.t.Fatalf(format+"\nend of the log:\n%s", append(args, log[max(0, len(log)-4000):])...)
}

// checkGood: exactly the good configs, once each, in the order of the commits.
func (c *crash) checkGood(targets []fleet.Hash) {
	c.t.Helper()
	if hasRepeats(targets) {
		c.fatal("two commits had one content: %v", targets)
	}
	for _, a := range c.agents.Agents() {
		var got []fleet.Hash
		for _, o := range a.Offered {
			got = append(got, o.Delivery.Config)
		}
		if !slices.Equal(got, targets) {
			c.fatal("agent %s was offered %v, want %v", a.ID, got, targets)
		}
	}
}

func hasRepeats(h []fleet.Hash) bool {
	seen := map[fleet.Hash]bool{}
	for _, x := range h {
		if seen[x] {
			return true
		}
		seen[x] = true
	}
	return false
}

// checkBad: at most the canaries were offered it, once, and everybody runs the
// good one.
func (c *crash) checkBad(r web.Rollout, good fleet.Hash) {
	c.t.Helper()
	touched := 0
	for _, a := range c.agents.Agents() {
		times := 0
		for _, o := range a.Offered {
			if o.Delivery.Config == r.Blocked {
				times++
			}
		}
		if times > 1 {
			c.fatal("agent %s was offered the bad config %d times", a.ID, times)
		}
		touched += times
		if a.Running.Config != good {
			c.fatal("agent %s runs %s, want %s", a.ID, a.Running.Config.Short(), good.Short())
		}
	}
	if touched == 0 || touched > 2 {
		c.fatal("%d agents were offered the bad config, the canary has 2", touched)
	}
}
