package otelconf

import "gopkg.in/yaml.v3"

// value is one value of a config with aliases and merge keys expanded, and the
// place it was written at: after a merge the files differ from value to value.
type value struct {
	kind  yaml.Kind // ScalarNode, SequenceNode or MappingNode
	tag   string
	text  string // of a scalar
	style yaml.Style
	pairs []pair   // of a mapping, in order, names unique
	items []*value // of a sequence

	file      string
	line, col int
}

type pair struct {
	name string // the key as the Collector sees it
	key  *value
	val  *value
}

// get returns the value of a key of a mapping, or nil.
func (v *value) get(name string) *value {
	if v == nil {
		return nil
	}
	for _, p := range v.pairs {
		if p.name == name {
			return p.val
		}
	}
	return nil
}

func (v *value) isNull() bool { return v.kind == yaml.ScalarNode && v.tag == "!!null" }

// expand turns checked nodes into values. It relies on [Documents] having counted:
// it ends, and within the limit.
func expand(file string, n *yaml.Node) *value {
	if n.Kind == yaml.AliasNode {
		// The place is that of the alias for the value itself, and that of the
		// anchor for what is inside.
		v := *expand(file, n.Alias)
		v.line, v.col = n.Line, n.Column
		return &v
	}
	v := &value{kind: n.Kind, tag: n.Tag, text: n.Value, style: n.Style, file: file, line: n.Line, col: n.Column}
	switch n.Kind {
	case yaml.SequenceNode:
		for _, item := range n.Content {
			v.items = append(v.items, expand(file, item))
		}
	case yaml.MappingNode:
		v.pairs = expandPairs(file, n)
	}
	return v
}

// expandPairs lists a mapping's own pairs and then, for keys not among them, those
// of its << maps: what is written wins over what is merged in, and an earlier map
// of a list over a later one.
func expandPairs(file string, n *yaml.Node) []pair {
	e := pairsOf{file: file, have: make(map[string]bool, len(n.Content)/2), text: textKeys(n)}
	e.add(n)
	return e.pairs
}

type pairsOf struct {
	file  string
	text  bool // the Collector reads all keys as text, merged ones included
	have  map[string]bool
	pairs []pair
}

func (e *pairsOf) add(n *yaml.Node) {
	var merged []*yaml.Node
	for i := 0; i+1 < len(n.Content); i += 2 {
		at, val := n.Content[i], n.Content[i+1]
		key := at
		if at.Kind == yaml.AliasNode {
			key = at.Alias
		} else if isMerge(at) {
			merged = append(merged, mergeMaps(val)...)
			continue
		}
		k := expand(e.file, at)
		if e.text && k.tag != "!!str" {
			k.tag, k.style = "!!str", yaml.DoubleQuotedStyle
			key = &yaml.Node{Kind: yaml.ScalarNode, Tag: k.tag, Value: k.text}
		}
		if name := keyName(key); !e.have[name] {
			e.have[name] = true
			e.pairs = append(e.pairs, pair{name: name, key: k, val: expand(e.file, val)})
		}
	}
	for _, m := range merged {
		e.add(m)
	}
}

// mergeMaps lists the maps that a << names.
func mergeMaps(val *yaml.Node) []*yaml.Node {
	if val.Kind == yaml.AliasNode {
		val = val.Alias
	}
	if val.Kind == yaml.MappingNode {
		return []*yaml.Node{val}
	}
	var maps []*yaml.Node
	for _, item := range val.Content {
		if item.Kind == yaml.AliasNode {
			item = item.Alias
		}
		maps = append(maps, item)
	}
	return maps
}

// textKeys reports whether a map's own keys are all text. Only then does the
// Collector's decoder take keys that are merged in as they are written.
func textKeys(n *yaml.Node) bool {
	for i := 0; i < len(n.Content); i += 2 {
		key := n.Content[i]
		if key.Kind == yaml.AliasNode {
			key = key.Alias
		}
		if key.Tag != "!!str" && key.Tag != "!!merge" {
			return false
		}
	}
	return true
}

// node turns a value into what the encoder takes: all in block style, without
// comments, scalars as they were written, or with quotes around every text.
func (v *value) node(quoted bool) *yaml.Node {
	n := &yaml.Node{Kind: v.kind, Tag: v.tag, Value: v.text, Style: v.style &^ yaml.FlowStyle}
	if quoted && v.kind == yaml.ScalarNode && v.tag == "!!str" {
		n.Style = yaml.DoubleQuotedStyle
	}
	for _, item := range v.items {
		n.Content = append(n.Content, item.node(quoted))
	}
	for _, p := range v.pairs {
		n.Content = append(n.Content, p.key.node(quoted), p.val.node(quoted))
	}
	return n
}

// same reports whether two values mean the same, wherever and however written.
func (v *value) same(w *value) bool {
	if v.kind != w.kind || v.tag != w.tag || v.text != w.text || len(v.items) != len(w.items) || len(v.pairs) != len(w.pairs) {
		return false
	}
	for i := range v.items {
		if !v.items[i].same(w.items[i]) {
			return false
		}
	}
	for i, p := range v.pairs {
		q := w.pairs[i]
		if p.name != q.name || !p.key.same(q.key) || !p.val.same(q.val) {
			return false
		}
	}
	return true
}
