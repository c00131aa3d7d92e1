package sim

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/open-telemetry/opamp-go/protobufs"

	"github.com/bellwether-opamp/bellwether/internal/fleet"
)

// agent is one simulated agent. Everything but view belongs to the goroutine that
// runs [agent.run].
type agent struct {
	fleet  *Fleet
	index  int
	random *rand.Rand

	id         fleet.AgentID
	labels     fleet.Labels
	seq        uint64
	introduced bool // the first message of this process was sent
	heartbeat  time.Duration

	// The persisted part: what was received last, and the word about it.
	received fleet.Delivery
	status   fleet.ApplyStatus
	failure  string
	fault    Rule // of what was received
	pending  []fleet.File

	running    config // what the collector runs
	previous   config // what it ran before
	healthy    bool
	healthText string
	started    time.Time

	// due is when something is to happen, and what; zero when nothing is.
	due  time.Time
	then func(*agent) *protobufs.AgentToServer

	mu   sync.Mutex // guards view
	view View
}

type config struct {
	delivery fleet.Delivery
	files    []fleet.File
}

// capabilities are those of a Supervisor that accepts remote configs.
const capabilities = fleet.ReportsStatus | fleet.AcceptsRemoteConfig | fleet.ReportsEffectiveConfig |
	fleet.ReportsHealth | fleet.ReportsRemoteConfig | fleet.ReportsHeartbeat

func newAgent(f *Fleet, i int) *agent {
	a := &agent{
		fleet: f, index: i, random: random(f.cfg.Seed, i, "jitter"),
		id: ID(f.cfg.Seed, i), labels: f.cfg.Labels(i), heartbeat: f.cfg.Heartbeat,
		healthy: true, // a Supervisor without a config runs a noop pipeline
	}
	a.publish(func(*View) {})
	return a
}

// snapshot returns the agent's view; any goroutine may ask.
func (a *agent) snapshot() View {
	a.mu.Lock()
	defer a.mu.Unlock()
	v := a.view
	v.Offered = slices.Clone(v.Offered)
	return v
}

// publish makes the agent's state visible, after change.
func (a *agent) publish(change func(*View)) {
	a.mu.Lock()
	defer a.mu.Unlock()
	v := &a.view
	change(v)
	v.ID, v.Labels = a.id, a.labels
	v.Delivery, v.Status = a.received, a.status
	v.Running, v.Healthy = a.running.delivery, a.healthy
}

func (a *agent) event(kind EventKind, d fleet.Delivery, s fleet.ApplyStatus) {
	a.fleet.cfg.OnEvent(Event{At: time.Now(), Agent: a.id, Kind: kind, Delivery: d, Status: s})
}

// message is the least an agent says: uid, sequence number, capabilities.
func (a *agent) message() *protobufs.AgentToServer {
	m := &protobufs.AgentToServer{
		InstanceUid: a.id[:], SequenceNum: a.seq, Capabilities: uint64(capabilities),
	}
	a.seq++
	return m
}

// full is the answer to ReportFullState, and the first message of a process.
func (a *agent) full() *protobufs.AgentToServer {
	m := a.message()
	m.AgentDescription = describe(a.labels)
	m.Health = a.healthMessage()
	m.EffectiveConfig = a.running.effective()
	m.RemoteConfigStatus = a.statusMessage()
	a.introduced = true
	return m
}

// describe puts service.* into the identifying attributes, as the Supervisor does.
func describe(labels fleet.Labels) *protobufs.AgentDescription {
	d := &protobufs.AgentDescription{}
	keys := make([]string, 0, len(labels))
	for k := range labels {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	for _, k := range keys {
		kv := &protobufs.KeyValue{Key: k, Value: &protobufs.AnyValue{
			Value: &protobufs.AnyValue_StringValue{StringValue: labels[k]},
		}}
		if len(k) > 8 && k[:8] == "service." {
			d.IdentifyingAttributes = append(d.IdentifyingAttributes, kv)
		} else {
			d.NonIdentifyingAttributes = append(d.NonIdentifyingAttributes, kv)
		}
	}
	return d
}

func (a *agent) healthMessage() *protobufs.ComponentHealth {
	h := &protobufs.ComponentHealth{Healthy: a.healthy, Status: "StatusOK", LastError: a.healthText}
	if !a.healthy {
		h.Status = "StatusRecoverableError"
	}
	if !a.started.IsZero() {
		h.StartTimeUnixNano = uint64(a.started.UnixNano())
	}
	return h
}

func (a *agent) statusMessage() *protobufs.RemoteConfigStatus {
	s := &protobufs.RemoteConfigStatus{ErrorMessage: a.failure}
	if !a.received.IsZero() {
		s.LastRemoteConfigHash = a.received.Wire()
	}
	switch a.status {
	case fleet.Applied:
		s.Status = protobufs.RemoteConfigStatuses_RemoteConfigStatuses_APPLIED
	case fleet.Applying:
		s.Status = protobufs.RemoteConfigStatuses_RemoteConfigStatuses_APPLYING
	case fleet.Failed:
		s.Status = protobufs.RemoteConfigStatuses_RemoteConfigStatuses_FAILED
	case fleet.Unset:
	}
	a.event(Reported, a.received, a.status)
	return s
}

// effective is the config map as it is: simulated collectors add nothing.
func (c config) effective() *protobufs.EffectiveConfig {
	files := make(map[string]*protobufs.AgentConfigFile, len(c.files))
	for _, f := range c.files {
		files[f.Name] = &protobufs.AgentConfigFile{Body: f.Body, ContentType: f.ContentType}
	}
	return &protobufs.EffectiveConfig{ConfigMap: &protobufs.AgentConfigMap{ConfigMap: files}}
}

// receive takes an offered config and returns what to say about it, nil for
// nothing. Leaving is true when the agent goes offline instead.
func (a *agent) receive(rc *protobufs.AgentRemoteConfig) (say *protobufs.AgentToServer, leaving bool) {
	d, ok := fleet.ParseWire(rc.GetConfigHash())
	if !ok {
		a.fleet.cfg.Logger.Warn("config without a hash of ours", "agent", a.id)
		return nil, false
	}
	a.publish(func(v *View) {
		if a.fleet.cfg.Record {
			v.Offered = append(v.Offered, Offer{At: time.Now(), Delivery: d})
		}
	})
	a.event(Offered, d, fleet.Unset)
	if d == a.received {
		return nil, false
	}
	files := make([]fleet.File, 0, len(rc.GetConfig().GetConfigMap()))
	for name, f := range rc.GetConfig().GetConfigMap() {
		files = append(files, fleet.File{Name: name, ContentType: f.GetContentType(), Body: f.GetBody()})
	}
	files = fleet.NewConfig(files...).Files
	a.received, a.pending, a.fault, a.failure = d, files, faultOf(a.fleet.cfg.Faults, a.labels, files), ""
	a.due, a.then = time.Time{}, nil
	switch a.fault.Fault {
	case Refuse:
		a.status, a.failure = fleet.Failed, fmt.Sprintf("simulated fault %s", a.fault)
		say = a.message()
		say.RemoteConfigStatus = a.statusMessage()
		return say, false
	case Offline:
		a.status = fleet.Applying
		return nil, true
	case Healthy:
		if a.running.delivery.Config == d.Config { // the same text: nothing to restart
			a.running.delivery, a.status, a.healthy, a.healthText = d, fleet.Applied, true, ""
			say = a.message()
			say.RemoteConfigStatus, say.Health = a.statusMessage(), a.healthMessage()
			return say, false
		}
	}
	return a.apply(), false
}

// apply starts to run what was received.
func (a *agent) apply() *protobufs.AgentToServer {
	wait := a.fleet.cfg.ApplyTime
	if wait > 0 {
		wait = time.Duration(float64(wait) * (0.75 + a.random.Float64()/2))
	}
	if a.fault.Fault == Slow {
		wait = a.fault.After
	}
	if wait <= 0 {
		return a.applied()
	}
	a.status, a.healthy, a.healthText = fleet.Applying, false, ""
	a.after(wait, (*agent).applied)
	m := a.message()
	m.RemoteConfigStatus = a.statusMessage()
	m.EffectiveConfig = a.running.effective() // the old one, as the Supervisor does
	m.Health = a.healthMessage()
	return m
}

func (a *agent) applied() *protobufs.AgentToServer {
	a.previous, a.running = a.running, config{delivery: a.received, files: a.pending}
	a.pending = nil
	a.status, a.healthy, a.healthText, a.started = fleet.Applied, true, "", time.Now()
	switch a.fault.Fault {
	case Sick:
		a.after(a.fault.After, (*agent).sicken)
	case Flapping:
		a.after(a.fault.After, (*agent).flap)
	case SelfRevert:
		a.after(a.fault.After, (*agent).revert)
	}
	m := a.message()
	m.EffectiveConfig = a.running.effective()
	m.Health = a.healthMessage()
	m.RemoteConfigStatus = a.statusMessage()
	return m
}

func (a *agent) sicken() *protobufs.AgentToServer {
	a.healthy, a.healthText = false, "simulated fault "+a.fault.String()
	m := a.message()
	m.Health = a.healthMessage()
	return m
}

func (a *agent) flap() *protobufs.AgentToServer {
	a.healthy, a.healthText = !a.healthy, ""
	if !a.healthy {
		a.healthText = "simulated fault " + a.fault.String()
	}
	a.after(max(a.fault.After, time.Millisecond), (*agent).flap)
	m := a.message()
	m.Health = a.healthMessage()
	return m
}

// revert is the end of a failed apply in newer Supervisors: the agent runs what
// it ran before, and says so.
func (a *agent) revert() *protobufs.AgentToServer {
	a.running = a.previous
	a.received, a.status = a.running.delivery, fleet.Applied
	if a.received.IsZero() {
		a.status = fleet.Unset
	}
	m := a.message()
	m.EffectiveConfig = a.running.effective()
	m.RemoteConfigStatus = a.statusMessage()
	return m
}

// after arms the agent's one alarm.
func (a *agent) after(d time.Duration, then func(*agent) *protobufs.AgentToServer) {
	a.due, a.then = time.Now().Add(d), then
}

// alarm does what was due.
func (a *agent) alarm() *protobufs.AgentToServer {
	then := a.then
	a.due, a.then = time.Time{}, nil
	return then(a)
}
