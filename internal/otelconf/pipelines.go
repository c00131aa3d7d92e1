package otelconf

import (
	"slices"
	"strings"

	"go.opentelemetry.io/collector/pipeline"
)

// wire is one pipeline with the connectors it is tied to.
type wire struct {
	id     string
	signal string
	at     *value
	in     []ref // connectors it receives from
	out    []ref // connectors it exports to
}

func (c *checker) pipelines(all *value) {
	var wires []wire
	seen := map[string]*value{}
	for _, p := range all.pairs {
		var id pipeline.ID
		if err := id.UnmarshalText([]byte(p.name)); err != nil {
			c.add(p.key, "C003", "service.pipelines: %v", err)
			continue
		}
		if other := seen[id.String()]; other != nil {
			c.add(p.key, "C003", "service.pipelines: %q is the same id as %q in line %d", p.name, other.text, other.line)
			continue
		}
		seen[id.String()] = p.key
		if id.Signal().String() == "profiles" {
			c.report(Warning, p.key, "C003", "pipeline %q needs the feature gate service.profilesSupport on the agents", p.name)
		}
		w := wire{id: id.String(), signal: id.Signal().String(), at: p.key}
		if c.pipeline(&w, p.val) {
			wires = append(wires, w)
		}
	}
	if !c.defined[connectors].open {
		c.connectorUse(wires)
		c.cycles(wires)
	}
}

// pipeline checks one pipeline by itself and notes its connectors. It is false
// when the pipeline is a reference as a whole.
func (c *checker) pipeline(w *wire, v *value) bool {
	what := "service.pipelines." + w.id
	written := v
	if v = c.mapping(v, what); v == nil {
		return false
	}
	if written.isNull() {
		written = w.at
	}
	c.knownKeys(v, "in pipeline "+w.id, receivers, processors, exporters)
	w.in = c.side(written, v, what, receivers)
	if list, ok := c.list(v.get(processors), what+".processors"); ok {
		s, seen := c.defined[processors], map[string]bool{}
		for _, r := range list {
			if !s.has(r.id) {
				c.add(r.at, "C006", "%s: processor %q is not defined%s", what, r.id, c.didYouMean(r.id, s.list))
			}
			if seen[r.id] {
				c.add(r.at, "C007", "%s: processor %q is listed twice", what, r.id)
			}
			seen[r.id] = true
		}
	}
	w.out = c.side(written, v, what, exporters)
	return true
}

// side checks one end of a pipeline and returns the connectors at it.
func (c *checker) side(at, v *value, what, kind string) (used []ref) {
	one := strings.TrimSuffix(kind, "s")
	written := v.get(kind)
	list, ok := c.list(written, what+"."+kind)
	if !ok {
		return nil
	}
	if written == nil || written.isNull() || len(written.items) == 0 {
		if written != nil {
			at = written
		}
		c.add(at, "C005", "%s has no %s", what, one)
	}
	own, ties, seen := c.defined[kind], c.defined[connectors], map[string]bool{}
	for _, r := range list {
		switch {
		case own.ids[r.id] != nil:
		case ties.ids[r.id] != nil:
			used = append(used, r)
		case !own.open && !ties.open:
			c.add(r.at, "C006", "%s: %s %q is not defined%s", what, one, r.id, c.didYouMean(r.id, own.list, ties.list))
		}
		if seen[r.id] {
			c.report(Warning, r.at, "C007", "%s: %s %q is listed twice", what, one, r.id)
		}
		seen[r.id] = true
	}
	return used
}

// connectorUse finds connectors with one end only.
func (c *checker) connectorUse(wires []wire) {
	in, out := map[string]bool{}, map[string]bool{}
	for _, w := range wires {
		for _, r := range w.in {
			in[r.id] = true
		}
		for _, r := range w.out {
			out[r.id] = true
		}
	}
	if c.unknowable(wires) {
		return
	}
	for _, w := range wires {
		for _, r := range w.out {
			if !in[r.id] {
				c.add(r.at, "C009", "service.pipelines.%s: connector %q is used as an exporter, but no pipeline receives from it", w.id, r.id)
			}
		}
		for _, r := range w.in {
			if !out[r.id] {
				c.add(r.at, "C009", "service.pipelines.%s: connector %q is used as a receiver, but no pipeline exports to it", w.id, r.id)
			}
		}
	}
}

// unknowable reports whether some pipeline or list of one is a reference, so that
// the other end of a connector may be hidden there.
func (c *checker) unknowable(wires []wire) bool {
	all := c.doc.root.get(service).get(pipelines)
	if len(wires) < len(all.pairs) {
		return true
	}
	for _, p := range all.pairs {
		for _, kind := range []string{receivers, exporters} {
			v := p.val.get(kind)
			if v == nil {
				continue
			}
			if v.reference() || slices.ContainsFunc(v.items, (*value).reference) {
				return true
			}
		}
	}
	return false
}
