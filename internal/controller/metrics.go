package controller

import (
	"time"

	"github.com/bellwether-opamp/bellwether/reconciler"
	"github.com/bellwether-opamp/bellwether/rollout"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// metrics is what the controller tells Prometheus. Gauges are set from the
// Status, counters from Events: the core is the only source. No label ever names
// an agent, and a rollout's series go when the rollout goes.
type metrics struct {
	leader            prometheus.Gauge
	snapshotValid     prometheus.Gauge
	snapshotProblems  prometheus.Gauge
	unmatched         prometheus.Gauge
	conflicting       prometheus.Gauge
	reconcileDuration prometheus.Histogram
	reconcileSuccess  prometheus.Gauge
	leadTime          prometheus.Histogram

	agents, agentsSync                      *prometheus.GaugeVec // rollout, state
	info                                    *prometheus.GaugeVec // rollout, commit, config
	phase, hold                             *prometheus.GaugeVec // rollout, phase or reason
	results                                 *prometheus.GaugeVec // rollout, wave, result
	wave, waves, disturbed, budget          *prometheus.GaugeVec // rollout
	startedAt, phaseAt, progressAt          *prometheus.GaugeVec // rollout
	holdSeconds, finished, failures, offers *prometheus.CounterVec
	duration, applyDuration                 *prometheus.HistogramVec

	versions *prometheus.GaugeVec // service, version

	known map[string]*seen // rollouts that have series
}

// seen is what the metrics must remember of a rollout between two plans.
type seen struct {
	hold       rollout.Hold
	holdSince  time.Time
	startedAt  time.Time
	committed  time.Time // of the target's revision
	commit     string
	config     string
	waveSeries map[string]bool
}

func newMetrics(r prometheus.Registerer) *metrics {
	f := promauto.With(r)
	gauge := func(name, help string) prometheus.Gauge {
		return f.NewGauge(prometheus.GaugeOpts{Name: "bellwether_" + name, Help: help})
	}
	gauges := func(name, help string, labels ...string) *prometheus.GaugeVec {
		return f.NewGaugeVec(prometheus.GaugeOpts{Name: "bellwether_" + name, Help: help}, labels)
	}
	counters := func(name, help string, labels ...string) *prometheus.CounterVec {
		return f.NewCounterVec(prometheus.CounterOpts{Name: "bellwether_" + name, Help: help}, labels)
	}
	histograms := func(name, help string, buckets []float64, labels ...string) *prometheus.HistogramVec {
		return f.NewHistogramVec(prometheus.HistogramOpts{Name: "bellwether_" + name, Help: help, Buckets: buckets}, labels)
	}
	// From half a minute to a day: rollouts take as long as they bake.
	long := []float64{30, 60, 120, 300, 600, 1800, 3600, 7200, 14400, 28800, 57600, 86400}
	return &metrics{
		known:            map[string]*seen{},
		leader:           gauge("leader", "1 while this process writes the records."),
		snapshotValid:    gauge("snapshot_valid", "1 if the newest revision was accepted, 0 if it was rejected or there is none."),
		snapshotProblems: gauge("snapshot_problems", "Problems found in the newest revision."),
		unmatched:        gauge("agents_unmatched", "Agents that no rollout selects."),
		conflicting:      gauge("agents_conflicting", "Agents that two rollouts of one priority select."),
		reconcileDuration: f.NewHistogram(prometheus.HistogramOpts{
			Name: "bellwether_reconcile_duration_seconds", Help: "Time of one turn of the loop, commit included.",
			Buckets: []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5},
		}),
		reconcileSuccess: gauge("reconcile_last_success_timestamp_seconds", "When a plan was last made durable."),
		leadTime: f.NewHistogram(prometheus.HistogramOpts{
			Name: "bellwether_change_lead_time_seconds", Help: "From the commit to Completed.", Buckets: long,
		}),
		agents:        gauges("agents", "Agents of a rollout by how they are.", "rollout", "state"),
		agentsSync:    gauges("agents_sync", "Agents of a rollout by how what they run relates to what they should run.", "rollout", "state"),
		info:          gauges("rollout_info", "Always 1; the commit and the config being rolled out.", "rollout", "commit", "config"),
		phase:         gauges("rollout_phase", "1 for the phase the rollout is in.", "rollout", "phase"),
		hold:          gauges("rollout_hold", "1 for the reason why nothing moves.", "rollout", "reason"),
		results:       gauges("rollout_agents", "Agents of an attempt by wave and result.", "rollout", "wave", "result"),
		wave:          gauges("rollout_wave", "Index of the current wave, from 0.", "rollout"),
		waves:         gauges("rollout_waves", "Waves of the attempt.", "rollout"),
		disturbed:     gauges("rollout_disturbed", "Agents disturbed and not yet good again.", "rollout"),
		budget:        gauges("rollout_budget", "Agents that may be disturbed at once.", "rollout"),
		versions:      gauges("agent_versions", "Connected agents by what they say they are; rare ones summed as other.", "service", "version"),
		startedAt:     gauges("rollout_start_timestamp_seconds", "When the attempt started.", "rollout"),
		phaseAt:       gauges("rollout_phase_start_timestamp_seconds", "When the phase last changed.", "rollout"),
		progressAt:    gauges("rollout_last_progress_timestamp_seconds", "When the attempt last progressed.", "rollout"),
		holdSeconds:   counters("rollout_hold_seconds_total", "Time spent held.", "rollout", "reason"),
		finished:      counters("rollouts_finished_total", "Attempts that ended.", "rollout", "outcome"),
		failures:      counters("agent_failures_total", "Agents that failed in an attempt.", "rollout", "reason"),
		offers:        counters("offers_total", "Configs assigned to agents.", "rollout", "kind"),
		duration:      histograms("rollout_duration_seconds", "From the start of an attempt to its end.", long, "rollout", "outcome"),
		applyDuration: histograms("agent_apply_duration_seconds", "From the offer to an agent good for minHealthyTime.", []float64{1, 2.5, 5, 10, 20, 30, 45, 60, 120, 300, 600}, "rollout"),
	}
}

// outcomes are the ways an attempt ends.
func outcomes() []string { return []string{"completed", "rolled_back", "paused", "superseded"} }

// failureLabels are the words of bellwether_agent_failures_total, by Failure.
func failureLabel(f rollout.Failure) string {
	switch f {
	case rollout.Rejected:
		return "rejected"
	case rollout.Timeout:
		return "timeout"
	case rollout.Lost:
		return "lost"
	case rollout.Regressed:
		return "regressed"
	case rollout.SelfReverted:
		return "self_reverted"
	}
	return "unknown"
}

// of returns what is remembered of a rollout, creating its series at zero.
func (m *metrics) of(name string) *seen {
	if s, ok := m.known[name]; ok {
		return s
	}
	s := &seen{waveSeries: map[string]bool{}}
	m.known[name] = s
	for _, h := range rollout.Holds() {
		m.holdSeconds.WithLabelValues(name, h.String())
	}
	for _, o := range outcomes() {
		m.finished.WithLabelValues(name, o)
		m.duration.WithLabelValues(name, o)
	}
	for _, f := range rollout.Failures() {
		m.failures.WithLabelValues(name, failureLabel(f))
	}
	for _, k := range rollout.OfferKinds() {
		m.offers.WithLabelValues(name, k.String())
	}
	m.applyDuration.WithLabelValues(name)
	return s
}

func (m *metrics) event(e rollout.Event) {
	if e.Rollout == "" {
		return
	}
	s := m.of(e.Rollout)
	switch e.Kind {
	case rollout.EventOffered:
		m.offers.WithLabelValues(e.Rollout, e.Offer.String()).Add(float64(e.Count))
	case rollout.EventAgentFailed:
		m.failures.WithLabelValues(e.Rollout, failureLabel(e.Failure)).Inc()
	case rollout.EventAgentOK:
		m.applyDuration.WithLabelValues(e.Rollout).Observe(e.Took.Seconds())
	}
	outcome, ok := finished(e)
	if !ok {
		return
	}
	m.finished.WithLabelValues(e.Rollout, outcome).Inc()
	if !s.startedAt.IsZero() {
		m.duration.WithLabelValues(e.Rollout, outcome).Observe(e.At.Sub(s.startedAt).Seconds())
	}
	if outcome == "completed" && !s.committed.IsZero() {
		m.leadTime.Observe(e.At.Sub(s.committed).Seconds())
	}
}

// versionsAre replaces the counts by version.
func (m *metrics) versionsAre(counts map[version]int) {
	m.versions.Reset()
	for v, n := range counts {
		m.versions.WithLabelValues(v.service, v.version).Set(float64(n))
	}
}

func (m *metrics) judged(s reconciler.RevisionStatus) {
	m.snapshotProblems.Set(float64(len(s.Problems)))
	m.snapshotValid.Set(number(s.Accepted))
}

func (m *metrics) reconciled(took time.Duration, now time.Time) {
	m.reconcileDuration.Observe(took.Seconds())
	m.reconcileSuccess.Set(float64(now.UnixMilli()) / 1000)
}

// status sets every gauge, and removes the series of rollouts that are gone.
func (m *metrics) status(st reconciler.Status, now time.Time) {
	m.unmatched.Set(float64(st.Unmatched))
	m.conflicting.Set(float64(st.Conflicting))
	live := make(map[string]bool, len(st.Rollouts))
	for _, r := range st.Rollouts {
		live[r.Name] = true
		m.rollout(r, m.of(r.Name), now)
	}
	for name := range m.known {
		if !live[name] {
			m.forget(name)
		}
	}
}

func (m *metrics) rollout(r reconciler.RolloutStatus, s *seen, now time.Time) {
	for _, state := range reconciler.AgentStates() {
		m.agents.WithLabelValues(r.Name, state.String()).Set(float64(r.States[state]))
	}
	for _, state := range reconciler.SyncStates() {
		m.agentsSync.WithLabelValues(r.Name, state.String()).Set(float64(r.Syncs[state]))
	}
	for _, p := range rollout.Phases() {
		m.phase.WithLabelValues(r.Name, p.String()).Set(number(p == r.Phase))
	}
	for _, h := range rollout.Holds() {
		m.hold.WithLabelValues(r.Name, h.String()).Set(number(h == r.Hold))
	}
	if s.hold != rollout.NoHold {
		m.holdSeconds.WithLabelValues(r.Name, s.hold.String()).Add(now.Sub(s.holdSince).Seconds())
	}
	s.hold, s.holdSince = r.Hold, now
	s.startedAt, s.committed = r.StartedAt, r.TargetRevision.Time
	m.wave.WithLabelValues(r.Name).Set(float64(r.Wave))
	m.waves.WithLabelValues(r.Name).Set(float64(len(r.Waves)))
	m.disturbed.WithLabelValues(r.Name).Set(float64(r.Disturbed))
	m.budget.WithLabelValues(r.Name).Set(float64(r.Budget))
	m.startedAt.WithLabelValues(r.Name).Set(seconds(r.StartedAt))
	m.phaseAt.WithLabelValues(r.Name).Set(seconds(r.PhaseAt))
	m.progressAt.WithLabelValues(r.Name).Set(seconds(r.ProgressAt))
	m.rolloutWaves(r, s)
	m.rolloutInfo(r, s)
}

func (m *metrics) rolloutWaves(r reconciler.RolloutStatus, s *seen) {
	current := make(map[string]bool, len(r.Waves))
	for _, w := range r.Waves {
		current[w.Name], s.waveSeries[w.Name] = true, true
		for _, result := range rollout.Results() {
			m.results.WithLabelValues(r.Name, w.Name, result.String()).Set(float64(w.Results[result]))
		}
	}
	for name := range s.waveSeries {
		if !current[name] {
			delete(s.waveSeries, name)
			m.results.DeletePartialMatch(prometheus.Labels{"rollout": r.Name, "wave": name})
		}
	}
}

func (m *metrics) rolloutInfo(r reconciler.RolloutStatus, s *seen) {
	commit, config := r.TargetRevision.ID, r.Target.String()
	if commit == s.commit && config == s.config {
		return
	}
	m.info.DeletePartialMatch(prometheus.Labels{"rollout": r.Name})
	m.info.WithLabelValues(r.Name, commit, config).Set(1)
	s.commit, s.config = commit, config
}

func (m *metrics) forget(name string) {
	delete(m.known, name)
	gone := prometheus.Labels{"rollout": name}
	for _, g := range []*prometheus.GaugeVec{
		m.agents, m.agentsSync, m.info, m.phase, m.hold, m.results, m.wave, m.waves,
		m.disturbed, m.budget, m.startedAt, m.phaseAt, m.progressAt,
	} {
		g.DeletePartialMatch(gone)
	}
	for _, c := range []*prometheus.CounterVec{m.holdSeconds, m.finished, m.failures, m.offers} {
		c.DeletePartialMatch(gone)
	}
	m.duration.DeletePartialMatch(gone)
	m.applyDuration.DeletePartialMatch(gone)
}

func number(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

func seconds(t time.Time) float64 {
	if t.IsZero() {
		return 0
	}
	return float64(t.UnixMilli()) / 1000
}
