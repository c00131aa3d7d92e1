package otelconf

import (
	"bytes"
	"fmt"
	"math"
	"slices"
	"strings"

	"gopkg.in/yaml.v3"
)

// Doc is one Collector config: a parsed file, or several merged. It is immutable.
type Doc struct {
	File string // as given to [Parse]; of merged files the first
	Body []byte // what an agent should get: of a single file its very bytes
	root *value // nil: nothing in it
	line int    // where to complain about what is missing
}

// Empty reports whether the file holds nothing but comments and space. That may
// be laid over another file, but is no config of its own.
func (d *Doc) Empty() bool { return d.root == nil }

// Parse reads one config file strictly ([Documents]). The body is kept, not
// copied. A Doc is nil exactly when there is an error among the problems. It says
// nothing yet about the config's structure: files that only make sense when
// merged parse, too; [Check] is next.
func Parse(file string, body []byte, limits Limits) (*Doc, []Problem) {
	nodes, problems := Documents(file, body, limits)
	if Failed(problems) {
		return nil, problems
	}
	d := &Doc{File: file, Body: body, line: 1}
	switch {
	case len(nodes) == 0:
		return d, problems
	case len(nodes) > 1:
		problems = append(problems, Problem{File: file, Line: nodes[1].Line, Col: nodes[1].Column, Rule: "yaml",
			Message: "a second YAML document: the Collector reads only the first of a file"})
		return nil, problems
	}
	d.root, d.line = expand(file, nodes[0]), nodes[0].Line
	if d.root.kind != yaml.MappingNode {
		problems = append(problems, Problem{File: file, Line: d.root.line, Col: d.root.col, Rule: "type",
			Message: fmt.Sprintf("a Collector config must be a map, not %s", d.root.describe())})
		return nil, problems
	}
	for _, p := range d.root.pairs {
		if p.key.tag != "!!str" {
			problems = append(problems, Problem{File: file, Line: p.key.line, Col: p.key.col, Rule: "type",
				Message: fmt.Sprintf("the keys at the top of a Collector config must be text, not %s", p.key.describe())})
		}
	}
	if Failed(problems) {
		return nil, problems
	}
	return d, problems
}

// describe names what a value is, for messages.
func (v *value) describe() string { return Describe(v.kind, v.tag) }

// Merge lays the docs over each other from left to right as the Collector does
// with several --config: maps merge key by key and deep; everything else, lists
// and null included, replaces what was there. (The Collector's list appending is
// behind a feature gate that is off by default, and so it is here.)
//
// A single doc is returned as it is. The body of several is new YAML in block
// style: keys in the order in which they first appear, comments dropped, scalars
// as written and never retyped. It depends on nothing but the docs. Docs must not
// be empty or hold nil.
func Merge(docs []*Doc, limits Limits) (*Doc, []Problem) {
	if len(docs) == 1 {
		return docs[0], nil
	}
	limits.setDefaults()
	out := &Doc{File: docs[0].File, line: docs[0].line}
	var problems []Problem
	for _, d := range docs {
		if d.root == nil {
			problems = append(problems, Problem{File: d.File, Rule: "empty", Severity: Warning,
				Message: "the file holds nothing and changes nothing in the merge"})
			continue
		}
		problems = append(problems, pathKeys(d.root)...)
		out.root = merge(out.root, d.root)
	}
	if Failed(problems) {
		return nil, SortProblems(problems)
	}
	if out.root == nil {
		return out, problems
	}
	body, err := encode(out.root)
	if err == nil && len(body) > limits.FileSize {
		err = fmt.Errorf("the merged config has %d bytes, more than the limit of %d", len(body), limits.FileSize)
	}
	if err != nil {
		return nil, append(problems, Problem{File: out.File, Rule: "merge", Message: err.Error()})
	}
	out.Body = body
	return out, problems
}

// pathKeys finds keys with "::" in them. The Collector takes them for a path when
// it merges, which files merged here would not get the chance to show.
func pathKeys(v *value) (problems []Problem) {
	for _, item := range v.items {
		problems = append(problems, pathKeys(item)...)
	}
	for _, p := range v.pairs {
		if strings.Contains(p.name, "::") {
			problems = append(problems, Problem{File: p.key.file, Line: p.key.line, Col: p.key.col, Rule: "merge",
				Message: fmt.Sprintf("the key %q cannot be merged: the Collector reads :: as a path", p.name)})
		}
		problems = append(problems, pathKeys(p.val)...)
	}
	return problems
}

// merge returns over laid on under; neither is changed.
func merge(under, over *value) *value {
	if under == nil || under.kind != yaml.MappingNode || over.kind != yaml.MappingNode {
		return over
	}
	out := *under
	out.pairs = slices.Clone(under.pairs)
	at := make(map[string]int, len(out.pairs))
	for i, p := range out.pairs {
		at[p.name] = i
	}
	for _, p := range over.pairs {
		if i, ok := at[p.name]; ok {
			out.pairs[i] = pair{name: p.name, key: out.pairs[i].key, val: merge(out.pairs[i].val, p.val)}
			continue
		}
		out.pairs = append(out.pairs, p)
	}
	return &out
}

// encode writes a tree and reads it again: the encoder has known faults with
// rare texts, and what an agent gets must be what was meant.
func encode(root *value) ([]byte, error) {
	unlimited := Limits{FileSize: math.MaxInt, Nodes: math.MaxInt / 2, Depth: math.MaxInt}
	for _, quoted := range []bool{false, true} {
		var b bytes.Buffer
		enc := yaml.NewEncoder(&b)
		enc.SetIndent(2)
		if err := enc.Encode(root.node(quoted)); err != nil {
			return nil, fmt.Errorf("writing the merged config: %w", err)
		}
		if back, problems := Parse("", b.Bytes(), unlimited); len(problems) == 0 && back.root != nil && back.root.same(root) {
			return b.Bytes(), nil
		}
	}
	return nil, fmt.Errorf("the merged config cannot be written as YAML without a change of meaning")
}
