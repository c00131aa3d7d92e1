package controller

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/bellwether-opamp/bellwether/internal/fleet"
	"github.com/bellwether-opamp/bellwether/internal/manifest"
	"github.com/bellwether-opamp/bellwether/reconciler"
	"github.com/bellwether-opamp/bellwether/rollout"
)

// tick is one turn of the loop. It returns an error only when this process must
// stop; a plan that could not be made durable is dropped and made anew later.
func (c *Controller) tick(ctx context.Context, now time.Time) error {
	began := time.Now()
	mail := c.inbox.take()
	c.fold(mail.reports)
	if mail.source != nil {
		c.source = *mail.source
	}
	set := c.set
	if mail.revision != nil {
		set = c.judge(*mail.revision, now)
	}
	if err := c.keepConfigs(ctx, set); err != nil {
		return c.postpone(mail, err)
	}
	plan := reconciler.Reconcile(c.state, reconciler.World{
		Now: now, Set: set, Agents: c.herd.all(), Ownership: c.ownership, Intents: intents(mail.intents),
	})
	if err := c.cfg.Records.Commit(ctx, plan.State); err != nil {
		return c.postpone(mail, err)
	}
	c.listen(plan.Events)
	c.adopt(plan)
	c.observeNow() // in the usual case the watch has already told
	c.offer()
	c.tell(plan, now)
	for i, r := range mail.intents {
		r.answer <- plan.Answers[i]
	}
	c.prune(ctx)
	c.metrics.reconciled(time.Since(began), now)
	return nil
}

func intents(requests []request) []reconciler.Intent {
	out := make([]reconciler.Intent, len(requests))
	for i, r := range requests {
		out[i] = r.intent
	}
	return out
}

func (c *Controller) fold(reports []fleet.Report) {
	for _, r := range reports {
		r.At = r.At.Add(c.ahead)
		if c.herd.fold(r) {
			c.ownership = nil
		}
		was, ok := c.offered[r.Agent]
		switch {
		case !ok:
		case r.Gone && was.session <= r.Session:
			delete(c.offered, r.Agent)
		case r.Remote != nil && r.Remote.Delivery == was.delivery && r.Session == was.session:
			was.answered = true
			c.offered[r.Agent] = was
		}
	}
}

// judge takes a parsed revision and returns the set that is in force from now on:
// the new one, or, when it was rejected, the one that was.
func (c *Controller) judge(r revision, now time.Time) *manifest.Set {
	known := len(c.revisions) > 0 && c.revisions[0].Accepted && c.revisions[0].Revision.ID == r.snapshot.Revision.ID
	if known && r.set != nil {
		return c.set // the saved snapshot, and then the same one from the repository
	}
	status := reconciler.RevisionStatus{Revision: r.snapshot.Revision, Accepted: r.set != nil, SeenAt: now}
	for _, p := range r.problems {
		status.Problems = append(status.Problems, p.String())
	}
	c.remember(status)
	c.metrics.judged(status)
	if r.set == nil {
		first := r.problems[slices.IndexFunc(r.problems, func(p manifest.Problem) bool { return p.Severity == manifest.Error })].String()
		c.log.Error("revision rejected", "revision", status.Revision.Short(), "count", len(r.problems), "first", first)
		c.journal(Entry{At: now, Kind: "revision rejected", Revision: status.Revision.ID, Text: first})
		return c.set
	}
	c.log.Info("revision accepted", "revision", status.Revision.Short(), "count", len(r.set.Rollouts))
	c.journal(Entry{At: now, Kind: "revision accepted", Revision: status.Revision.ID, Text: status.Revision.Subject})
	c.cfg.Accepted(r.snapshot)
	c.set, c.ownership = r.set, nil
	return r.set
}

// maxRevisions is how many revisions are remembered for people.
const maxRevisions = 50

// remember puts a revision in front; a look that found the same one again only
// replaces it.
func (c *Controller) remember(s reconciler.RevisionStatus) {
	if len(c.revisions) > 0 && c.revisions[0].Revision.ID == s.Revision.ID {
		c.revisions[0] = s
		return
	}
	c.revisions = append([]reconciler.RevisionStatus{s}, c.revisions...)
	c.revisions = c.revisions[:min(len(c.revisions), maxRevisions)]
}

// keepConfigs makes the contents a plan may name durable before it is made.
func (c *Controller) keepConfigs(ctx context.Context, set *manifest.Set) error {
	if set == nil {
		return nil
	}
	for _, r := range set.Rollouts {
		if _, ok := c.blobs[r.Config.Hash]; ok {
			continue
		}
		if err := c.cfg.Configs.PutConfig(ctx, r.Config); err != nil {
			return fmt.Errorf("keep the config of rollout %s: %w", r.Name, err)
		}
		c.blobs[r.Config.Hash] = r.Config
	}
	return nil
}

// postpone drops a plan that could not be made durable. Nothing of it was acted
// on; what was asked and observed is handled in the next tick.
func (c *Controller) postpone(mail letters, err error) error {
	c.inbox.put(func() { c.inbox.intents = append(mail.intents, c.inbox.intents...) })
	if errors.Is(err, ErrDeposed) {
		return err
	}
	if errors.Is(err, context.Canceled) {
		return nil // we are stopping: the next start plans afresh
	}
	c.problem = err.Error()
	c.log.Error("plan not durable, nothing is offered until it is", "err", err)
	return nil
}

// adopt takes a durable plan as the state.
func (c *Controller) adopt(plan reconciler.Plan) {
	c.state, c.ownership, c.wakeAt, c.problem = plan.State, plan.Ownership, plan.WakeAt, ""
	c.status = plan.Status
	for _, r := range c.status.Rollouts {
		for i, f := range r.Failing {
			if f.Message == "" {
				r.Failing[i].Message = c.complaints[f.Agent].text
			}
		}
	}
}

// listen remembers what agents said when they failed: once they are home, they
// say something else. It is for people, and lost with the process.
func (c *Controller) listen(events []rollout.Event) {
	for _, e := range events {
		switch e.Kind {
		case rollout.EventStarted:
			maps.DeleteFunc(c.complaints, func(_ fleet.AgentID, said complaint) bool { return said.rollout == e.Rollout })
		case rollout.EventAgentFailed:
			c.complaints[e.Agent] = complaint{e.Rollout, e.Text}
		}
	}
}

// observeNow takes in what the watch has already delivered, without waiting.
func (c *Controller) observeNow() {
	select {
	case records, open := <-c.cfg.Observed:
		if open {
			c.records = records
		}
	default:
	}
}

// observe takes in records from the store's watch and acts on them.
func (c *Controller) observe(records reconciler.State) {
	c.records = records
	c.offer()
}

// offer gives every agent we hold what the durable records assign to it, once for
// each session and decision. It reads the records as the watch told them, not the
// plan: so a process that is no longer the one to write has nothing to act with.
func (c *Controller) offer() {
	for _, o := range reconciler.Offers(c.records, c.herd.all()) {
		session := c.herd.byID[o.Agent].Session
		now := sent{session: session, delivery: o.Delivery, decided: o.At.UnixMilli()}
		if c.offered[o.Agent].covers(now) {
			continue
		}
		config, ok := c.blobs[o.Delivery.Config]
		if !ok {
			c.log.Error("config of an assignment is not held", "config", o.Delivery.Config.Short(), "agent", o.Agent.String())
			continue
		}
		if err := c.cfg.Offerer.Offer(o.Agent, o.Delivery, config); err != nil {
			c.log.Debug("offer not sent", "agent", o.Agent.String(), "config", o.Delivery.Short(), "err", err)
			continue
		}
		c.offered[o.Agent] = now
	}
}

// covers reports whether an agent that was sent s needs not be sent next: the same
// in the same session, unless it has answered since and then it was decided anew,
// because the agent drifted. (The time of a decision also moves when a hold ends.)
func (s sent) covers(next sent) bool {
	return s.session == next.session && s.delivery == next.delivery && (!s.answered || s.decided == next.decided)
}

// tell reports a durable plan: log, journal, counters, gauges.
func (c *Controller) tell(plan reconciler.Plan, now time.Time) {
	entries := make([]Entry, 0, len(plan.Events))
	for _, e := range plan.Events {
		c.logEvent(e)
		c.metrics.event(e)
		entries = append(entries, entryOf(e))
	}
	if len(entries) > 0 {
		c.cfg.Journal(entries)
	}
	c.metrics.status(plan.Status, now)
}

func (c *Controller) journal(e Entry) { c.cfg.Journal([]Entry{e}) }

// Load fetches the contents that the records need, before Run: the way home must
// be there even when git has lost it. Called once, before Run.
func (c *Controller) Load(ctx context.Context) error {
	for hash := range reconciler.Configs(c.state) {
		config, err := c.cfg.Configs.Config(ctx, hash)
		if err != nil {
			return fmt.Errorf("load config %s: %w", hash.Short(), err)
		}
		c.blobs[hash] = config
	}
	return nil
}

// prune forgets contents that no record, committed or watched, and no set needs any
// more.
func (c *Controller) prune(ctx context.Context) {
	keep := reconciler.Configs(c.state)
	maps.Copy(keep, reconciler.Configs(c.records))
	if c.set != nil {
		for _, r := range c.set.Rollouts {
			keep[r.Config.Hash] = true
		}
	}
	dropped := false
	for hash := range c.blobs {
		if !keep[hash] {
			delete(c.blobs, hash)
			dropped = true
		}
	}
	if !dropped {
		return
	}
	if err := c.cfg.Configs.PruneConfigs(ctx, keep); err != nil && ctx.Err() == nil {
		c.log.Warn("old configs not pruned", "err", err)
	}
}

// finished reports whether an event ends an attempt, and how.
func finished(e rollout.Event) (outcome string, ok bool) {
	switch {
	case e.Kind == rollout.EventSuperseded:
		return "superseded", true
	case e.Kind != rollout.EventPhase:
		return "", false
	case e.Phase == rollout.Completed:
		return "completed", true
	case e.Phase == rollout.RolledBack:
		return "rolled_back", true
	case e.Phase == rollout.Paused:
		return "paused", true
	}
	return "", false
}
