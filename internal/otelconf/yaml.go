package otelconf

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"

	"gopkg.in/yaml.v3"
)

// Limits bound what one file may ask of us. Zero fields mean the defaults.
type Limits struct {
	FileSize int // bytes; 1 MiB
	Nodes    int // YAML nodes after the aliases are expanded; 200,000
	Depth    int // nesting after the aliases are expanded; 100
}

func (l *Limits) setDefaults() {
	if l.FileSize <= 0 {
		l.FileSize = 1 << 20
	}
	if l.Nodes <= 0 {
		l.Nodes = 200_000
	}
	if l.Depth <= 0 {
		l.Depth = 100
	}
}

// Documents parses all YAML documents of a file, strictly: text that is not
// UTF-8, NUL bytes, syntax errors, aliases that contain themselves or expand
// beyond the limits, keys that are no scalars, duplicate keys and tags of one's
// own are problems, each with its place. Documents that hold nothing are left
// out. Aliases and merge keys are left in the nodes, but are safe to expand when
// there is no problem; on any problem no node is returned.
func Documents(file string, body []byte, limits Limits) ([]*yaml.Node, []Problem) {
	limits.setDefaults()
	r := &reader{file: file, limits: limits}
	if len(body) > limits.FileSize {
		r.add(nil, "limit", "the file has %d bytes, more than the limit of %d", len(body), limits.FileSize)
		return nil, r.problems
	}
	if !r.text(body) {
		return nil, r.problems
	}
	docs := r.decode(body)
	kept := docs[:0]
	for _, doc := range docs {
		r.measure(doc)
		if !Failed(r.problems) {
			r.keys(doc)
		}
		if root := doc.Content[0]; root.Kind != yaml.ScalarNode || root.Tag != "!!null" {
			kept = append(kept, root)
		}
	}
	if Failed(r.problems) {
		return nil, SortProblems(r.problems)
	}
	return kept, nil
}

type reader struct {
	file     string
	limits   Limits
	problems []Problem
}

func (r *reader) add(at *yaml.Node, rule, format string, args ...any) {
	p := Problem{File: r.file, Rule: rule, Message: fmt.Sprintf(format, args...)}
	if at != nil {
		p.Line, p.Col = at.Line, at.Column
	}
	r.problems = append(r.problems, p)
}

// text looks at the bytes: UTF-8 without NUL. (The parser itself would also take
// UTF-16, which nobody who reads our diffs could.)
func (r *reader) text(body []byte) bool {
	bad, what := bytes.IndexByte(body, 0), "a NUL byte"
	if bad < 0 && !utf8.Valid(body) {
		what = "bytes that are not UTF-8"
		for bad = 0; bad < len(body); {
			c, size := utf8.DecodeRune(body[bad:])
			if c == utf8.RuneError && size == 1 {
				break
			}
			bad += size
		}
	}
	if bad < 0 {
		return true
	}
	line := bytes.Count(body[:bad], []byte{'\n'}) + 1
	start := bytes.LastIndexByte(body[:bad], '\n') + 1
	r.add(&yaml.Node{Line: line, Column: utf8.RuneCount(body[start:bad]) + 1}, "yaml", "the file contains %s", what)
	return false
}

var yamlLine = regexp.MustCompile(`^yaml: (?:line (\d+): )?`)

// decode reads document after document and stops at the first error, which the
// decoder would repeat for ever.
func (r *reader) decode(body []byte) (docs []*yaml.Node) {
	defer func() {
		if p := recover(); p != nil { // a bug of the parser must reject the file, not end the process
			docs = nil
			r.add(nil, "yaml", "the YAML parser gave up: %v", p)
		}
	}()
	dec := yaml.NewDecoder(bytes.NewReader(body))
	for {
		var doc yaml.Node
		err := dec.Decode(&doc)
		if errors.Is(err, io.EOF) {
			return docs
		}
		if err != nil {
			message := err.Error()
			at := &yaml.Node{Line: 1, Column: 1} // the parser names no line when it is the first
			if m := yamlLine.FindStringSubmatch(message); m != nil {
				message = message[len(m[0]):]
				if line, err := strconv.Atoi(m[1]); err == nil {
					at.Line = line
					if countsFromZero(message) {
						at.Line++
					}
				}
			}
			if strings.Contains(message, "cannot start any token") && hasTabIndent(body) {
				message += " (YAML does not allow tabs for indentation)"
			}
			if strings.Contains(message, "did not find expected ',' or") && bytes.Contains(body, []byte("${")) {
				message += " (inside of { } and [ ] a ${...} needs quotes)"
			}
			r.add(at, "yaml", "%s", message)
			return nil
		}
		if doc.Kind == yaml.DocumentNode && len(doc.Content) == 1 {
			docs = append(docs, &doc)
		}
	}
}

// countsFromZero reports whether the message is one of those for which yaml.v3
// counts lines from 0: the grammar's, where it counts from 1 for the scanner's.
func countsFromZero(message string) bool {
	for _, grammar := range []string{"<document start>", "node content", "'-' indicator", "expected key", "',' or ']'", "',' or '}'"} {
		if strings.Contains(message, "did not find expected") && strings.Contains(message, grammar) {
			return true
		}
	}
	return false
}

func hasTabIndent(body []byte) bool {
	for line := range bytes.Lines(body) {
		if bytes.HasPrefix(bytes.TrimLeft(line, " "), []byte{'\t'}) {
			return true
		}
	}
	return false
}

// extent is how large a node is once its aliases are expanded.
type extent struct {
	nodes, depth int
	open         bool // still being measured: an alias to it is a cycle
}

// measure counts what expanding the aliases would make of the document, without
// expanding them: each anchored node is measured once.
func (r *reader) measure(doc *yaml.Node) {
	seen := map[*yaml.Node]*extent{}
	tooDeep := false
	var visit func(n *yaml.Node, level int) extent
	visit = func(n *yaml.Node, level int) extent {
		if n.Kind == yaml.AliasNode {
			if n.Alias == nil {
				return extent{nodes: 1, depth: 1}
			}
			if e := seen[n.Alias]; e != nil {
				if e.open {
					r.add(n, "yaml", "the alias *%s is inside of what it stands for", n.Value)
					return extent{nodes: 1, depth: 1}
				}
				return *e
			}
			return visit(n.Alias, level)
		}
		if level > r.limits.Depth {
			if !tooDeep {
				tooDeep = true
				r.add(n, "limit", "nested deeper than the limit of %d levels", r.limits.Depth)
			}
			return extent{nodes: 1, depth: 1}
		}
		e := &extent{nodes: 1, open: true}
		if n.Anchor != "" {
			seen[n] = e
		}
		for _, child := range n.Content {
			c := visit(child, level+1)
			e.nodes = min(e.nodes+c.nodes, r.limits.Nodes+1) // saturates: a bomb would overflow
			e.depth = max(e.depth, c.depth)
		}
		e.depth++
		e.open = false
		return *e
	}
	whole := visit(doc.Content[0], 1)
	switch {
	case whole.nodes > r.limits.Nodes:
		r.add(doc.Content[0], "limit", "more than %d values once aliases are expanded", r.limits.Nodes)
	case whole.depth > r.limits.Depth && !tooDeep:
		r.add(doc.Content[0], "limit", "nested deeper than the limit of %d levels once aliases are expanded", r.limits.Depth)
	}
}

// keys checks the keys of all mappings and all tags, each place once.
func (r *reader) keys(n *yaml.Node) {
	if n.Kind != yaml.AliasNode && n.Kind != yaml.DocumentNode && !ordinaryTag(n) {
		r.add(n, "yaml", "the tag %s is not allowed", n.Tag)
	}
	if n.Kind == yaml.MappingNode {
		r.mapping(n)
	}
	for _, child := range n.Content {
		r.keys(child)
	}
}

func (r *reader) mapping(n *yaml.Node) {
	first := make(map[string]int, len(n.Content)/2)
	for i := 0; i+1 < len(n.Content); i += 2 {
		key := n.Content[i]
		if key.Kind == yaml.AliasNode && key.Alias != nil && key.Alias.Kind == yaml.ScalarNode {
			key = &yaml.Node{Kind: yaml.ScalarNode, Tag: key.Alias.Tag, Value: key.Alias.Value, Line: key.Line, Column: key.Column}
		}
		switch {
		case key.Kind != yaml.ScalarNode:
			r.add(key, "yaml", "a key must be plain text")
			continue
		case key.Tag == "!!null":
			r.add(key, "yaml", "a key must not be null")
			continue
		case isMerge(key):
			r.mergeKey(n.Content[i+1])
		}
		name := keyName(key)
		if line, again := first[name]; again {
			r.add(key, "duplicate", "the key %q is already in line %d", name, line)
			continue
		}
		first[name] = key.Line
	}
}

func (r *reader) mergeKey(value *yaml.Node) {
	values := []*yaml.Node{value}
	if value.Kind == yaml.SequenceNode {
		values = value.Content
	}
	for _, v := range values {
		if v.Kind == yaml.AliasNode && v.Alias != nil {
			v = v.Alias
		}
		if v.Kind != yaml.MappingNode {
			r.add(value, "yaml", "<< needs a map or a list of maps")
			return
		}
	}
}

func isMerge(key *yaml.Node) bool { return key.Tag == "!!merge" }

// keyName is the name of a scalar key as the Collector sees it: it turns all
// keys into text, so that 1 and "1" are the same.
func keyName(key *yaml.Node) string {
	switch key.Tag {
	case "!!str", "!!merge", "":
		return key.Value
	}
	var v any
	if err := key.Decode(&v); err != nil {
		return key.Value
	}
	return fmt.Sprint(v)
}

// ordinaryTag reports whether the tag is one that a plain file has without
// saying so.
func ordinaryTag(n *yaml.Node) bool {
	switch n.Kind {
	case yaml.MappingNode:
		return n.Tag == "!!map" || n.Tag == ""
	case yaml.SequenceNode:
		return n.Tag == "!!seq" || n.Tag == ""
	}
	switch n.Tag {
	case "", "!", "!!str", "!!int", "!!float", "!!bool", "!!null", "!!timestamp", "!!merge":
		var v any
		return n.Style&yaml.TaggedStyle == 0 || n.Decode(&v) == nil
	}
	return false
}

// Describe names what a node is, for messages: "a map", "text", "a number". It
// never says what is in it, which may be a secret.
func Describe(kind yaml.Kind, tag string) string {
	switch kind {
	case yaml.MappingNode:
		return "a map"
	case yaml.SequenceNode:
		return "a list"
	}
	switch tag {
	case "!!null":
		return "null"
	case "!!str":
		return "text"
	case "!!int":
		return "a number"
	case "!!float":
		return "a fraction"
	case "!!bool":
		return "true or false"
	}
	return "a " + strings.TrimPrefix(tag, "!!")
}
