package manifest

import (
	"slices"
	"strings"
	"time"

	"gopkg.in/yaml.v3"

	"github.com/bellwether-opamp/bellwether/rollout"
)

// draft is a Rollout whose references are not resolved yet.
type draft struct {
	rollout     *Rollout
	selectorRef *yaml.Node   // the name of a Selector; nil: inline, or with errors
	configs     []*yaml.Node // paths as written
}

func (p *parser) rolloutManifest(d *decoder, n *yaml.Node) {
	d.manifest(n, KindRollout, true, func(name string, spec *yaml.Node) {
		out := &draft{rollout: &Rollout{Name: name, File: d.file, Line: n.Line}}
		p.spec(d, out, spec)
		if name == "" {
			p.checkConfigs(out)
			return
		}
		if first := p.rollouts[name]; first != nil {
			d.add(n, "duplicate", "the Rollout %q is already declared in %s:%d", name, first.rollout.File, first.rollout.Line)
			p.checkConfigs(out)
			return
		}
		p.rollouts[name] = out
	})
}

// spec reads a Rollout's spec and fills the defaults in.
func (p *parser) spec(d *decoder, out *draft, n *yaml.Node) {
	s := rollout.Spec{
		MaxUnavailable:   rollout.Size{Percent: rollout.DefaultMaxUnavailable},
		MinHealthyTime:   rollout.DefaultMinHealthyTime,
		HealthyDeadline:  rollout.DefaultHealthyDeadline,
		ProgressDeadline: rollout.DefaultProgressDeadline,
		OnFailure:        rollout.Pause,
	}
	var times [3]*yaml.Node
	before := d.errors
	d.object(n, "a Rollout's spec",
		field{"selector", true, func(n *yaml.Node) { d.selectorOrName(out, n) }},
		field{"config", true, func(n *yaml.Node) { p.configPaths(d, out, n) }},
		field{"priority", false, func(n *yaml.Node) { out.rollout.Priority = d.integer(n, "priority", -1<<31) }},
		field{"waves", true, func(n *yaml.Node) { s.Waves = p.waves(d, n) }},
		field{"maxUnavailable", false, func(n *yaml.Node) { s.MaxUnavailable = d.size(n, "maxUnavailable") }},
		field{"minHealthyTime", false, func(n *yaml.Node) { times[0] = n; d.set(&s.MinHealthyTime, n, "minHealthyTime") }},
		field{"healthyDeadline", false, func(n *yaml.Node) { times[1] = n; d.set(&s.HealthyDeadline, n, "healthyDeadline") }},
		field{"progressDeadline", false, func(n *yaml.Node) { times[2] = n; d.set(&s.ProgressDeadline, n, "progressDeadline") }},
		field{"onFailure", false, func(n *yaml.Node) { s.OnFailure = d.onFailure(n) }},
		field{"paused", false, func(n *yaml.Node) { s.Paused = d.boolean(n, "paused") }},
		field{"retryToken", false, func(n *yaml.Node) { s.RetryToken, _ = d.text(n, "retryToken") }},
		field{"offline", false, d.offline},
		d.notYetList("windows", "changes would also be made outside of the windows"),
		d.notYetList("analysis", "no query would hold the rollout back"),
		d.notYetList("dependsOn", "the rollout would not wait for them"),
		field{"maxPerMinute", false, func(n *yaml.Node) {
			d.add(n, "unsupported", "not supported yet: maxPerMinute (offers would not be limited)")
		}})
	if d.errors == before {
		d.order(n, times, s)
	}
	out.rollout.Spec = s
}

func (d *decoder) set(to *time.Duration, n *yaml.Node, what string) {
	if v, ok := d.duration(n, what); ok {
		*to = v
	}
}

// order holds the deadlines to minHealthyTime < healthyDeadline <
// progressDeadline: with any other order no agent could ever settle in time. The
// place is that of the last one written.
func (d *decoder) order(spec *yaml.Node, at [3]*yaml.Node, s rollout.Spec) {
	names := [...]string{"minHealthyTime", "healthyDeadline", "progressDeadline"}
	values := [...]time.Duration{s.MinHealthyTime, s.HealthyDeadline, s.ProgressDeadline}
	for i := range 2 {
		if values[i] < values[i+1] {
			continue
		}
		place := spec
		for _, n := range at[i : i+2] {
			if n != nil && (place == spec || n.Line > place.Line || n.Line == place.Line && n.Column > place.Column) {
				place = n
			}
		}
		d.add(place, "deadline", "%s (%s) must be shorter than %s (%s)", names[i], values[i], names[i+1], values[i+1])
	}
}

func (d *decoder) selectorOrName(out *draft, n *yaml.Node) {
	switch {
	case n.Kind == yaml.MappingNode:
		out.rollout.Selector = d.selector(n)
	case n.Kind == yaml.ScalarNode && n.Tag == "!!str":
		out.selectorRef = n
	case n.Kind == yaml.ScalarNode && n.Tag == "!!null":
		d.add(n, "selector", "selector must not be null: {} selects all agents")
	default:
		d.add(n, "type", "selector must be a Selector's name or its body, not %s", describe(n))
	}
}

func (p *parser) configPaths(d *decoder, out *draft, n *yaml.Node) {
	items := []*yaml.Node{n}
	if n.Kind == yaml.SequenceNode {
		items = list(n)
	}
	switch most := p.opts.Limits.Configs; {
	case len(items) == 0:
		d.add(n, "value", "config must name at least one file")
	case len(items) > most:
		d.add(n, "limit", "config names %d files, more than the limit of %d", len(items), most)
		return
	}
	for _, item := range items {
		if _, ok := d.text(item, "a path in config"); ok {
			out.configs = append(out.configs, item)
		}
	}
}

func (d *decoder) onFailure(n *yaml.Node) rollout.OnFailure {
	if d.enum(n, "onFailure", rollout.Pause.String(), rollout.Rollback.String()) == 1 {
		return rollout.Rollback
	}
	return rollout.Pause
}

// offline knows the default only. What else the contract has is refused rather
// than ignored.
func (d *decoder) offline(n *yaml.Node) {
	if d.enum(n, "offline", "defer", "wait") == 1 {
		d.add(n, "unsupported", "not supported yet: offline: wait (agents that are offline would be deferred)")
	}
}

// notYetList is a list of the contract that nothing heeds yet. An empty one asks
// for nothing.
func (d *decoder) notYetList(name, danger string) field {
	return field{name, false, func(n *yaml.Node) {
		if len(d.list(n, name)) > 0 {
			d.add(n, "unsupported", "not supported yet: %s (%s)", name, danger)
		}
	}}
}

func (p *parser) waves(d *decoder, n *yaml.Node) []rollout.Wave {
	items := d.list(n, "waves")
	switch most := p.opts.Limits.Waves; {
	case n.Kind == yaml.SequenceNode && len(items) == 0:
		d.add(n, "value", "waves must have at least one wave")
	case len(items) > most:
		d.add(n, "limit", "%d waves, more than the limit of %d", len(items), most)
		return nil
	}
	waves := make([]rollout.Wave, len(items))
	for i, item := range items {
		name := d.wave(item, &waves[i])
		if name == nil {
			continue
		}
		if slices.ContainsFunc(waves[:i], func(w rollout.Wave) bool { return w.Name == name.Value }) {
			d.add(name, "duplicate", "the wave %q is already in the list", name.Value)
		}
		if name.Value == rollout.Rest {
			d.add(name, "name", "no wave may be called %q: that is the implicit last one, for whoever is left", rollout.Rest)
		}
	}
	return waves
}

// wave reads one wave and returns the node of its name if that is one.
func (d *decoder) wave(n *yaml.Node, w *rollout.Wave) (name *yaml.Node) {
	d.object(n, "a wave",
		field{"name", true, func(n *yaml.Node) {
			if s, ok := d.name(n, "a wave's name"); ok {
				w.Name, name = s, n
			}
		}},
		field{"size", false, func(n *yaml.Node) { w.Size = d.size(n, "size") }},
		field{"selector", false, func(n *yaml.Node) {
			if n.Kind != yaml.MappingNode {
				d.add(n, "type", "a wave's selector must be a map, not %s", describe(n))
			} else if s := d.selector(n); s != nil {
				w.Selector = s
			}
		}},
		field{"bake", false, func(n *yaml.Node) { d.set(&w.Bake, n, "bake") }},
		field{"maxFailures", false, func(n *yaml.Node) { w.MaxFailures = d.integer(n, "maxFailures", 0) }},
		field{"onFailure", false, func(n *yaml.Node) { w.OnFailure = d.onFailure(n) }},
		field{"approval", false, func(n *yaml.Node) {
			if d.boolean(n, "approval") {
				d.add(n, "unsupported", "not supported yet: approval (the wave would end without anybody's approval)")
			}
		}})
	return name
}

// resolve finds what a Rollout refers to.
func (p *parser) resolve(d *draft) {
	r := d.rollout
	if ref := d.selectorRef; ref != nil {
		if s := p.selectors[ref.Value]; s != nil {
			r.Selector = s.selector
		} else {
			p.add(r.File, ref.Line, ref.Column, "reference", "there is no Selector %q%s", short(ref.Value), p.nearSelector(ref.Value))
		}
	}
	p.checkConfigs(d)
}

// checkConfigs loads, merges and checks the configs of a Rollout.
func (p *parser) checkConfigs(d *draft) {
	r := d.rollout
	var files []*loaded
	for _, n := range d.configs {
		at, err := p.tree.find(n.Value)
		if err != nil {
			p.add(r.File, n.Line, n.Column, "path", "%s", err.message)
			continue
		}
		if slices.Contains(r.ConfigPaths, at.Path) {
			p.add(r.File, n.Line, n.Column, "duplicate", "the file %s is already in the list", at.Path)
			continue
		}
		r.ConfigPaths = append(r.ConfigPaths, at.Path)
		files = append(files, p.load(at))
	}
	if len(files) < len(d.configs) || len(files) == 0 {
		return
	}
	key := strings.Join(r.ConfigPaths, "\x00")
	config, known := p.rendered[key]
	if !known {
		config = p.render(files)
		p.rendered[key] = config
	}
	if config != nil {
		r.Config = *config
	}
}
