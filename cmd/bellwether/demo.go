package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/bellwether-opamp/bellwether/internal/web"
	"github.com/bellwether-opamp/bellwether/rollout"
	"github.com/spf13/cobra"
)

func newDemo() *cobra.Command {
	var keep bool
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "See a good commit reach 60 simulated agents, and a bad one caught in the canary",
		Long: `See a good commit reach 60 simulated agents, and a bad one caught in the canary.

Makes a git repository in a temporary directory, starts a server on loopback with an
empty data directory, connects 60 simulated agents over real OpAMP WebSockets, commits,
and shows what happens. On a terminal it then stays up until Ctrl-C; elsewhere, or with
CI=true, it exits: 0 if every step happened, 1 if one did not.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			out := cmd.OutOrStdout()
			d := &demo{out: out, colours: newPalette(out), screen: newScreen(out), keep: keep}
			if !d.screen.live || os.Getenv("CI") == "true" {
				d.screen.live, d.leave = false, true
			}
			return d.run(cmd.Context())
		},
	}
	cmd.Flags().BoolVar(&keep, "keep", false, "keep the temporary directory")
	return cmd
}

// demo is the story and what it needs to be told.
type demo struct {
	out     io.Writer
	colours palette
	screen  *screen
	keep    bool // keep the directory
	leave   bool // exit when told; else stay until interrupted
	stage   *stage
	step    int
}

const demoRollout = "edge"

func (d *demo) run(ctx context.Context) error {
	began := time.Now()
	stage, err := setStage(ctx, d.keep)
	if err != nil {
		return &failure{code: exitNo, err: err}
	}
	d.stage = stage
	defer stage.strike()
	if err := d.tell(ctx); err != nil {
		if ctx.Err() != nil {
			return nil // Ctrl-C is how a demo ends
		}
		return &failure{code: exitNo, err: fmt.Errorf("the demo stopped: %w", err), hint: "the server's log is " + stage.keepLog()}
	}
	d.sayf("\n%s in %.0f s.\n", d.colours.green("Everything happened as it should"), time.Since(began).Seconds())
	d.whatNext()
	if d.leave {
		return nil
	}
	<-ctx.Done()
	return nil
}

// tell is the story: each act ends only when what it shows has been seen.
func (d *demo) tell(ctx context.Context) error {
	acts := []func(context.Context) error{
		d.actConnect, d.actFirst, d.actGood, d.actBad, d.actAgain, d.actBroken,
	}
	for _, act := range acts {
		if err := act(ctx); err != nil {
			return err
		}
	}
	return nil
}

// actConnect: an empty repository, a server, and agents that wait.
func (d *demo) actConnect(ctx context.Context) error {
	d.title("An empty git repository, a server, and %d agents over OpAMP", demoAgents)
	d.sayf("  repository  %s\n  server log  %s\n", d.stage.repo, d.stage.logFile)
	if err := d.stage.start(ctx); err != nil {
		return err
	}
	d.sayf("  agents      %s/v1/opamp\n  API         %s\n  metrics     %s/metrics\n", d.stage.opamp, d.stage.api, d.stage.admin)
	if err := d.stage.connected(ctx); err != nil {
		return err
	}
	d.sayf("  All %d agents are connected. No rollout selects them, so they keep what they have.\n", demoAgents)
	return nil
}

// actFirst: the fleet gets its first config, wave by wave.
func (d *demo) actFirst(ctx context.Context) error {
	d.title("The first commit: examples/quickstart")
	if err := d.stage.commit(ctx, "fleet: the first config"); err != nil {
		return err
	}
	r, err := d.follow(ctx, 60*time.Second, completedAt(d.stage.head))
	if err != nil {
		return fmt.Errorf("the first config did not reach the fleet: %w", err)
	}
	return d.everybodyRuns(ctx, r)
}

// actGood: a good commit passes canary and waves.
func (d *demo) actGood(ctx context.Context) error {
	d.title("A good commit: batch sooner")
	if err := d.stage.edit(ctx, "configs/edge.yaml", "timeout: 5s", "timeout: 2s", "edge: batch sooner"); err != nil {
		return err
	}
	r, err := d.follow(ctx, 60*time.Second, completedAt(d.stage.head))
	if err != nil {
		return fmt.Errorf("the good commit did not complete: %w", err)
	}
	return d.everybodyRuns(ctx, r)
}

// actBad: a bad commit is caught in the canary and goes home.
func (d *demo) actBad(ctx context.Context) error {
	d.title("A bad commit: an exporter that no Collector here has")
	before, err := d.stage.client.Rollout(ctx, demoRollout)
	if err != nil {
		return err
	}
	if err := d.stage.edit(ctx, "configs/edge.yaml", "debug", "carrier_pigeon", "edge: export by pigeon"); err != nil {
		return err
	}
	r, err := d.follow(ctx, 45*time.Second, func(r web.Rollout) bool {
		return r.Phase == rollout.RolledBack && r.Revision == d.stage.head
	})
	if err != nil {
		return fmt.Errorf("the bad commit was not rolled back: %w", err)
	}
	got := d.stage.offered(r.Blocked)
	canary := 0
	if len(r.Waves) > 0 {
		canary = r.Waves[0].Size
	}
	if got == 0 || got > canary {
		return fmt.Errorf("%d agents were offered the bad config, the canary has %d", got, canary)
	}
	d.sayf("  %d of %d agents were offered it, all in the canary; they run the config from before again.\n", got, demoAgents)
	if r.Stable != before.Stable {
		return errors.New("the stable config is another one than before")
	}
	return d.everybodyRuns(ctx, r)
}

// actAgain: the same content in a new commit is not tried again.
func (d *demo) actAgain(ctx context.Context) error {
	d.title("The same bad content again, in a new commit")
	before, err := d.stage.client.Rollout(ctx, demoRollout)
	if err != nil {
		return err
	}
	seen := d.stage.deliveries()
	if err := d.stage.edit(ctx, "README.md", "\n", "\n\nTouched once more.\n", "readme: touch"); err != nil {
		return err
	}
	if r, err := d.stage.judged(ctx, d.stage.head); err != nil || r.State != "accepted" {
		return fmt.Errorf("commit %s was not accepted: %w", short(d.stage.head), err)
	}
	after, err := d.stage.client.Rollout(ctx, demoRollout)
	if err != nil {
		return err
	}
	if after.Phase != rollout.RolledBack || after.Blocked != before.Blocked || d.stage.deliveries() != seen {
		return fmt.Errorf("the blocked config was tried again: %s", sentence(after))
	}
	d.sayf("  %s\n  Nothing was offered to anybody.\n", sentence(after))
	return nil
}

// actBroken: a commit that does not check never reaches an agent.
func (d *demo) actBroken(ctx context.Context) error {
	d.title("A commit that does not check: a pipeline with an exporter that is not defined")
	seen := d.stage.deliveries()
	if err := d.stage.edit(ctx, "configs/edge.yaml", "exporters: [carrier_pigeon]", "exporters: [otlp]", "edge: export by otlp"); err != nil {
		return err
	}
	r, err := d.stage.judged(ctx, d.stage.head)
	if err != nil {
		return err
	}
	if r.State != "rejected" || len(r.Problems) == 0 || d.stage.deliveries() != seen {
		return fmt.Errorf("the broken commit was %s, with %d offers", r.State, d.stage.deliveries()-seen)
	}
	d.sayf("  %s, and the commit before stays in force:\n", d.colours.red("Rejected"))
	for _, p := range r.Problems {
		d.sayf("    %s\n", p)
	}
	return nil
}

func completedAt(revision string) func(web.Rollout) bool {
	return func(r web.Rollout) bool { return r.Phase == rollout.Completed && r.Revision == revision }
}

// follow draws the rollout until done says so, at most for limit.
func (d *demo) follow(ctx context.Context, limit time.Duration, done func(web.Rollout) bool) (web.Rollout, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("not within %v", limit))
	defer cancel()
	var last web.Rollout
	ticker := time.NewTicker(100 * time.Millisecond)
	defer ticker.Stop()
	defer d.screen.keep()
	line := ""
	for {
		r, err := d.stage.client.Rollout(ctx, demoRollout)
		if err != nil && !web.IsNotFound(err) && ctx.Err() == nil {
			return r, err
		}
		if err == nil {
			last = r
			if r.Revision != d.stage.head {
				// What was before is of no interest.
			} else if d.screen.live {
				d.screen.show(d.colours.picture(r, d.screen.width))
			} else if now := fmt.Sprintf("  %s, wave %s, %s settled, %d failed", sentence(r), waveLabel(r), settled(r), failed(r)); now != line {
				line = now
				d.sayf("%s\n", line)
			}
			if done(r) {
				return r, nil
			}
		}
		select {
		case <-ticker.C:
		case err := <-d.stage.died:
			return last, fmt.Errorf("the server stopped: %w", err)
		case <-ctx.Done():
			return last, fmt.Errorf("%w; it says %s", context.Cause(ctx), sentence(last))
		}
	}
}

// everybodyRuns checks with the agents themselves, not with the server.
func (d *demo) everybodyRuns(ctx context.Context, r web.Rollout) error {
	want := r.Target
	if r.Phase != rollout.Completed {
		want = r.Stable
	}
	if n := d.stage.running(want); n != demoAgents {
		return fmt.Errorf("%d of %d agents run %s", n, demoAgents, want.Short())
	}
	d.sayf("  All %d agents say they run %s.\n", demoAgents, want.Short())
	return ctx.Err()
}

func (d *demo) title(format string, args ...any) {
	d.step++
	d.sayf("\n%s\n", d.colours.bold(fmt.Sprintf("%d. ", d.step)+fmt.Sprintf(format, args...)))
}

func (d *demo) sayf(format string, args ...any) { _, _ = fmt.Fprintf(d.out, format, args...) }

func (d *demo) whatNext() {
	server := ""
	if d.stage.api != defaultServer {
		server = " --server " + d.stage.api
	}
	d.sayf(`
What to try next:
  %[5]s get rollouts%[1]s
  %[5]s describe rollout %[2]s%[1]s
  %[5]s get agents --result Failed%[1]s
  %[5]s retry %[2]s%[1]s          # the canary will refuse it again
  %[5]s watch%[1]s
  curl %[3]s/api/v1/rollouts/%[2]s
  curl %[4]s/metrics | grep ^bellwether_rollout
`, server, demoRollout, d.stage.api, d.stage.admin, os.Args[0])
	if !d.leave {
		d.sayf("  edit and commit in %s, and see what happens\n\nThe server and the agents stay up until Ctrl-C.\n", d.stage.repo)
	}
}
