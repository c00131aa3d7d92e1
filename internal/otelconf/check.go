package otelconf

import (
	"fmt"
	"slices"
	"strings"

	"go.opentelemetry.io/collector/component"
	"gopkg.in/yaml.v3"
)

// The sections of a config.
const (
	receivers  = "receivers"
	processors = "processors"
	exporters  = "exporters"
	connectors = "connectors"
	extensions = "extensions"
	service    = "service"
	pipelines  = "pipelines"
)

// Check applies the structural rules of the Collector, the ones that hold for
// every build whatever components it has, and returns all findings in order:
//
//	C001  only the known keys at the top, in service and in a pipeline
//	C002  component ids are type[/name]
//	C003  pipeline ids are traces, metrics, logs or profiles[/name]
//	C004  at least one receiver, one exporter and one pipeline
//	C005  each pipeline has a receiver and an exporter
//	C006  what a pipeline refers to is defined
//	C007  no component is listed twice in a pipeline
//	C008  a connector has no name that a receiver or exporter has
//	C009  a connector in use is both an exporter and a receiver of pipelines
//	C010  pipelines form no cycle through connectors
//	C011  enabled extensions are defined
//
// Besides there are "empty" for a config that holds nothing and "type" for a map
// where a list belongs, and the like. Places are those of the files the values
// came from, after a [Merge] as well.
func Check(d *Doc) []Problem {
	if d.Empty() {
		return []Problem{{File: d.File, Rule: "empty", Message: "the config is empty"}}
	}
	c := &checker{doc: d, defined: map[string]*section{}}
	c.knownKeys(d.root, "at the top of a config", receivers, processors, exporters, connectors, extensions, service)
	for _, name := range []string{receivers, processors, exporters, connectors, extensions} {
		c.defined[name] = c.section(name)
	}
	c.atLeastOne(receivers)
	c.atLeastOne(exporters)
	c.ambiguous()
	c.service()
	return SortProblems(c.problems)
}

type checker struct {
	doc      *Doc
	defined  map[string]*section
	guesses  int // suggestions made so far
	problems []Problem
}

// didYouMean is [DidYouMean] for the first few problems only: a hostile file could
// have thousands, each compared with thousands of names.
func (c *checker) didYouMean(word string, known ...[]string) string {
	const enough = 20
	if c.guesses >= enough {
		return ""
	}
	c.guesses++
	return DidYouMean(word, slices.Concat(known...)...)
}

// section is one kind of components: those defined, by id.
type section struct {
	ids  map[string]*pair
	list []string // in order
	open bool     // it comes from a reference: anything may be in it
}

func (s *section) has(id string) bool { return s.open || s.ids[id] != nil }

func (c *checker) add(at *value, rule, format string, args ...any) {
	c.report(Error, at, rule, format, args...)
}

func (c *checker) report(severity Severity, at *value, rule, format string, args ...any) {
	p := Problem{File: c.doc.File, Line: c.doc.line, Col: 1, Rule: rule, Severity: severity, Message: fmt.Sprintf(format, args...)}
	if at != nil {
		p.File, p.Line, p.Col = at.file, at.line, at.col
	}
	c.problems = append(c.problems, p)
}

func (c *checker) knownKeys(v *value, where string, known ...string) {
	for _, p := range v.pairs {
		if !slices.Contains(known, p.name) {
			c.add(p.key, "C001", "unknown key %q %s%s", p.name, where, c.didYouMean(p.name, known))
		}
	}
}

// reference reports whether the value as a whole is one ${...}, or holds one: the
// Collector puts in its place what only the agent knows.
func (v *value) reference() bool {
	return v.kind == yaml.ScalarNode && strings.Contains(v.text, "${")
}

// mapping returns v if it is a map; a null or missing value is an empty one. It is
// nil when nothing can be said about what is inside.
func (c *checker) mapping(v *value, what string) *value {
	switch {
	case v == nil || v.isNull():
		return &value{kind: yaml.MappingNode}
	case v.kind == yaml.MappingNode:
		return v
	case !v.reference():
		c.add(v, "type", "%s must be a map, not %s", what, v.describe())
	}
	return nil
}

func (c *checker) section(name string) *section {
	s := &section{ids: map[string]*pair{}}
	v := c.mapping(c.doc.root.get(name), name)
	if v == nil {
		s.open = true
		return s
	}
	for i := range v.pairs {
		p := &v.pairs[i]
		var id component.ID
		if err := id.UnmarshalText([]byte(p.name)); err != nil {
			c.add(p.key, "C002", "%s: %v", name, err)
			continue
		}
		if other := s.ids[id.String()]; other != nil {
			c.add(p.key, "C002", "%s: %q is the same id as %q in line %d", name, p.name, other.name, other.key.line)
			continue
		}
		s.ids[id.String()] = p
		s.list = append(s.list, id.String())
	}
	return s
}

func (c *checker) atLeastOne(name string) {
	v := c.doc.root.get(name)
	switch {
	case v == nil:
		c.add(nil, "C004", "the config has no %s", name)
	case v.isNull() || v.kind == yaml.MappingNode && len(v.pairs) == 0:
		c.add(v, "C004", "the config has no %s", name)
	}
}

// ambiguous finds connectors that a pipeline's lists could not tell from a
// receiver or an exporter.
func (c *checker) ambiguous() {
	for _, id := range c.defined[connectors].list {
		for _, other := range []string{receivers, exporters} {
			if clash := c.defined[other].ids[id]; clash != nil {
				c.add(c.defined[connectors].ids[id].key, "C008", "connectors: the id %q is also in %s (line %d)", id, other, clash.key.line)
			}
		}
	}
}

func (c *checker) service() {
	top := c.doc.root.get(service)
	v := c.mapping(top, service)
	if v == nil {
		return
	}
	c.knownKeys(v, "in service", extensions, pipelines, "telemetry")
	if list, ok := c.list(v.get(extensions), "service.extensions"); ok {
		c.enabled(list)
	}
	written := v.get(pipelines)
	all := c.mapping(written, "service.pipelines")
	switch {
	case all == nil:
	case len(all.pairs) > 0:
		c.pipelines(all)
	case written != nil:
		c.add(written, "C004", "the config has no pipelines")
	default:
		c.add(top, "C004", "the config has no pipelines")
	}
}

func (c *checker) enabled(list []ref) {
	for _, r := range list {
		if s := c.defined[extensions]; !s.has(r.id) {
			c.add(r.at, "C011", "service.extensions: %q is not defined in extensions%s", r.id, c.didYouMean(r.id, s.list))
		}
	}
}

// ref is one entry of a list of component ids.
type ref struct {
	id string
	at *value
}

// list reads a list of ids; it is false if the list as a whole is a reference or
// of the wrong type. Entries that are references are left out.
func (c *checker) list(v *value, what string) ([]ref, bool) {
	switch {
	case v == nil || v.isNull():
		return nil, true
	case v.kind != yaml.SequenceNode:
		if !v.reference() {
			c.add(v, "type", "%s must be a list, not %s", what, v.describe())
		}
		return nil, false
	}
	var refs []ref
	for _, item := range v.items {
		switch {
		case item.kind != yaml.ScalarNode || item.isNull():
			c.add(item, "type", "%s must list component ids, not %s", what, item.describe())
			continue
		case item.reference():
			continue
		}
		var id component.ID
		if err := id.UnmarshalText([]byte(item.text)); err != nil {
			c.add(item, "C002", "%s: %v", what, err)
			continue
		}
		refs = append(refs, ref{id: id.String(), at: item})
	}
	return refs, true
}
