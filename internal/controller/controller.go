// Package controller is the loop: it observes agents, commits and people, lets the
// reconciler decide, and carries the plan out in order: records made durable, then
// offers, then everything that only tells.
//
// One goroutine, the one in [Controller.Run], owns all state. Everybody else talks
// to it through an inbox, and sees it through [Controller.Query].
package controller

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/bellwether-opamp/bellwether/internal/fleet"
	"github.com/bellwether-opamp/bellwether/internal/manifest"
	"github.com/bellwether-opamp/bellwether/reconciler"
	"github.com/prometheus/client_golang/prometheus"
)

// Records is where the durable state lives. It is used from Run's goroutine only.
type Records interface {
	// Commit makes next durable: whole, fenced, or not at all. After an error it may
	// yet turn out that it was; then the next Commit goes on from there, and what
	// was stored is told by the watch.
	Commit(ctx context.Context, next reconciler.State) error
	// Beat records until when somebody was watching.
	Beat(ctx context.Context, now time.Time) error
}

// Configs keeps configs by content hash, so that the way home is there even when
// git has lost it.
type Configs interface {
	PutConfig(ctx context.Context, c fleet.Config) error // durable on return
	Config(ctx context.Context, h fleet.Hash) (fleet.Config, error)
	PruneConfigs(ctx context.Context, keep map[fleet.Hash]bool) error
}

// Offerer takes a config to an agent. It never blocks.
type Offerer interface {
	Offer(agent fleet.AgentID, d fleet.Delivery, c fleet.Config) error
}

// ErrDeposed is what Records.Commit and Beat return when another process took
// over: this one must stop, and has nothing to act with.
var ErrDeposed = errors.New("another process has taken over the records")

// Config is what a Controller needs. Logger, Registerer, Journal and Accepted may
// be nil, and the durations zero.
type Config struct {
	Records  Records
	Configs  Configs
	Offerer  Offerer
	Initial  reconciler.State        // as loaded from the store
	Observed <-chan reconciler.State // the records as the store's watch tells them, after each commit
	Journal  func([]Entry)           // told what happened, after it is durable; must not block
	Accepted func(fleet.Snapshot)    // a revision was accepted; must not block long

	AllowEmpty bool          // a commit that declares nothing is accepted
	Settle     time.Duration // reports are collected this long before a tick (20 ms)
	BeatEvery  time.Duration // 5 s
	AgentTTL   time.Duration // an agent offline for longer has left (72 h)

	Logger     *slog.Logger
	Registerer prometheus.Registerer
}

func (c *Config) setDefaults() error {
	if c.Records == nil || c.Configs == nil || c.Offerer == nil || c.Observed == nil {
		return errors.New("controller: Records, Configs, Offerer and Observed are required")
	}
	setDefault(&c.Settle, 20*time.Millisecond)
	setDefault(&c.BeatEvery, 5*time.Second)
	setDefault(&c.AgentTTL, 72*time.Hour)
	if c.Journal == nil {
		c.Journal = func([]Entry) {}
	}
	if c.Accepted == nil {
		c.Accepted = func(fleet.Snapshot) {}
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return nil
}

func setDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

// Controller is the owner of the state. Make one with [New], start it with Run.
type Controller struct {
	cfg     Config
	log     *slog.Logger
	metrics *metrics
	inbox   *inbox

	// Owned by Run's goroutine.
	state      reconciler.State       // as last committed
	records    reconciler.State       // as the store's watch last told: what may be acted on
	set        *manifest.Set          // in force
	ownership  *reconciler.Ownership  // of the last plan; nil when stale
	herd       herd                   // all known agents
	offered    map[fleet.AgentID]sent // what each session was already given
	blobs      map[fleet.Hash]fleet.Config
	status     reconciler.Status
	source     fleet.SourceStatus
	revisions  []reconciler.RevisionStatus // newest first
	wakeAt     time.Time
	ahead      time.Duration               // of the system's clock, if that was set back
	took       time.Duration               // the last tick; the next one comes no sooner
	planned    bool                        // there was a tick: there is something to show
	complaints map[fleet.AgentID]complaint // what failed agents said when they failed
	problem    string                      // why the last tick could not be made durable
}

// complaint is what an agent said when it failed in an attempt of a rollout.
type complaint struct{ rollout, text string }

// sent is what an agent was last given. The same delivery is given again in a new
// session, and when it was decided anew because the agent had drifted from it.
type sent struct {
	session  uint64
	delivery fleet.Delivery
	decided  int64 // Unix milliseconds
	answered bool  // it said since that it has it or tries it
}

// New returns a controller that continues from cfg.Initial. It starts nothing.
func New(cfg Config) (*Controller, error) {
	if err := cfg.setDefaults(); err != nil {
		return nil, err
	}
	c := &Controller{
		cfg:        cfg,
		log:        cfg.Logger,
		metrics:    newMetrics(cfg.Registerer),
		inbox:      newInbox(),
		state:      cfg.Initial,
		records:    cfg.Initial,
		herd:       newHerd(),
		offered:    map[fleet.AgentID]sent{},
		blobs:      map[fleet.Hash]fleet.Config{},
		complaints: map[fleet.AgentID]complaint{},
	}
	for _, r := range cfg.Initial.Rollouts {
		for e := range r.Ledger.All() {
			c.herd.remember(e.Agent, cfg.Initial.Watched)
		}
	}
	return c, nil
}

// Run works until ctx is done or the records can no longer be written because
// another process took over.
func (c *Controller) Run(ctx context.Context) error {
	defer c.inbox.close()
	c.metrics.leader.Set(1)
	defer c.metrics.leader.Set(0)
	wake := time.NewTimer(0)
	defer wake.Stop()
	beat := time.NewTicker(c.cfg.BeatEvery)
	defer beat.Stop()
	var next time.Time // when the timer fires
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-c.inbox.wake:
			if c.planned {
				c.answerQueries()
			}
			if !c.inbox.pending() || c.problem != "" { // the retry has its own time
				continue
			}
			// Bring the tick forward, never back: a chatty fleet must not starve it.
			settle := c.settle()
			if soon := time.Now().Add(settle); next.IsZero() || soon.Before(next) {
				next = soon
				wake.Reset(settle)
			}
			continue
		case records, open := <-c.cfg.Observed:
			if !open {
				return fmt.Errorf("watch records: %w", ErrDeposed)
			}
			c.observe(records)
			continue
		case <-beat.C:
			if err := c.beat(ctx, c.clock()); err != nil {
				return err
			}
			continue
		case <-wake.C:
		}
		began := time.Now()
		if err := c.tick(ctx, c.clock()); err != nil {
			return err
		}
		c.took, c.planned = time.Since(began), true
		c.answerQueries()
		next = c.next()
		wake.Reset(time.Until(next))
	}
}

// settle is how long reports are collected before a tick: four times what the last
// one took, so that a flood of them leaves the machine to the agents, and not more
// than a second. A revision or an intent is not kept waiting.
func (c *Controller) settle() time.Duration {
	if c.inbox.urgent() {
		return 0
	}
	return max(c.cfg.Settle, c.took, min(4*c.took, time.Second))
}

// answerQueries lets whoever waits look, without a tick.
func (c *Controller) answerQueries() {
	for _, q := range c.inbox.takeQueries() {
		q.look(View{c})
		q.done <- nil
	}
}

// beat records that somebody is watching, and forgets agents that have left.
func (c *Controller) beat(ctx context.Context, now time.Time) error {
	if c.herd.expire(now, c.cfg.AgentTTL) > 0 {
		c.ownership = nil
		c.inbox.nudge()
	}
	c.metrics.versionsAre(countVersions(c.herd.all()))
	err := c.cfg.Records.Beat(ctx, now)
	if err != nil && !errors.Is(err, ErrDeposed) {
		if ctx.Err() == nil {
			c.log.Warn("beat not recorded", "err", err)
		}
		return nil
	}
	return err
}

// next returns when to tick again: when the plan says so, or soon if something
// arrived meanwhile or the last tick could not be made durable. A silent fleet is
// looked at all the same, or the silence would count as time in which nobody watched.
func (c *Controller) next() time.Time {
	const (
		retry   = time.Second
		silence = 20 * time.Second
	)
	if c.problem != "" {
		return time.Now().Add(retry)
	}
	if c.inbox.pending() {
		return time.Now().Add(max(c.cfg.Settle, c.took))
	}
	latest := time.Now().Add(silence)
	if at := c.wakeAt.Add(-c.ahead); !c.wakeAt.IsZero() && at.Before(latest) {
		return at
	}
	return latest
}

// clock returns the time as the records keep it. It never goes behind what they
// say already: when the system's clock was set back, it goes on from there.
func (c *Controller) clock() time.Time {
	now := stamp(time.Now().Add(c.ahead))
	if behind := c.state.Watched.Sub(now); behind > 0 {
		c.log.Warn("the clock is behind the records, going on from theirs", "behind", behind)
		c.ahead += behind
		return c.state.Watched
	}
	return now
}

// stamp is a time as the records keep it.
func stamp(t time.Time) time.Time { return t.Round(0).UTC().Truncate(time.Millisecond) }
