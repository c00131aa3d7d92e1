package otelconf

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"go.opentelemetry.io/collector/confmap"
	"pgregory.net/rapid"
)

// scalars is text as it stands in a file, chosen for what YAML libraries have got
// wrong on the way in or out.
func scalars() []string {
	return []string{
		"0123", `"0123"`, "0o17", "0x1F", "0b101", "1_000", "1e3", "1.0", "-0", "+1", ".5", "1.", ".inf", "-.Inf", ".nan", "12:30:45", "190:20:30",
		"yes", "No", "on", "OFF", "y", `"yes"`, "true", "True", `'false'`, "~", "null", `"null"`, `""`, "''",
		"2026-01-02", "2026-01-02T03:04:05Z", `"2026-01-02"`, "2026-01-02 03:04:05", "1.2.3", "123456789012345678901234567890",
		"${env:X}", "${env:X:-default}", "$$", "$${env:X}", "${file:a.yaml}", `"${env:A}-${env:B}"`, "a$b",
		"plain text", `"a: b"`, `'it''s'`, `"- x"`, `"# no comment"`, `"a #b"`, "a#b", `"@at"`, `"%p"`, "\"`tick\"", `"*star"`, `"&and"`, `"!bang"`, `"|"`, `">"`,
		`" lead"`, `"trail "`, `"tab\there"`, `"line\nbreak"`, `"\n"`, `"\n\nx\n\n"`, `" \n x"`, `"x\n "`, `"\u0085"`, `"\u2028"`, `"\ufeff"`, `"\a\e"`, `"é 日本"`, "日本", `"\U0001F600"`,
		`"<<"`, `"="`, "=", `"a\\b"`, `"c:\\x"`, `"quote\"d"`, "http://x:4317", "[::1]:1", "!!str 12", "!!str yes", "!!int 7", "!!float 1", `!!bool "true"`,
		"{}", "[]", "{a: {}, b: [1, x]}", "[[], {}, [a]]", strings.Repeat("long text ", 30) + "end",
	}
}

func keyTexts() []string {
	return []string{"a", "b", "c", "otlp/2", `"yes"`, "yes", "0123", `"1"`, "2", "1.5", "true", `"a b"`, `"a: b"`, "x.y", "2026-01-02", `""`, "é"}
}

// writer writes random YAML as text, so that nothing is smoothed by an encoder.
type writer struct {
	t       *rapid.T
	b       strings.Builder
	anchors []string // of maps
	next    int
}

func (w *writer) mapping(indent, depth int) {
	keys := rapid.SliceOfNDistinct(rapid.SampledFrom(keyTexts()), 1, 5, func(s string) string { return s }).Draw(w.t, "keys")
	pad := strings.Repeat(" ", indent)
	if len(w.anchors) > 0 && rapid.IntRange(0, 5).Draw(w.t, "merge") == 0 {
		fmt.Fprintf(&w.b, "%s<<: %s\n", pad, rapid.SampledFrom([]string{"*%[1]s", "[*%[1]s, {c: merged}]", "{b: merged}"}).Draw(w.t, "how"))
		text := w.b.String()
		name := rapid.SampledFrom(w.anchors).Draw(w.t, "anchor")
		w.b.Reset()
		w.b.WriteString(strings.ReplaceAll(text, "%[1]s", name))
	}
	for _, key := range keys {
		fmt.Fprintf(&w.b, "%s%s:", pad, key)
		w.value(indent, depth)
	}
}

func (w *writer) value(indent, depth int) {
	kinds := []string{"scalar", "scalar", "null", "block", "alias", "list", "map", "map", "anchored"}
	if depth == 0 {
		kinds = kinds[:4]
	}
	pad := strings.Repeat(" ", indent+2)
	switch rapid.SampledFrom(kinds).Draw(w.t, "kind") {
	case "null":
		w.b.WriteString(" # nothing\n")
	case "block":
		style := rapid.SampledFrom([]string{"|", ">", "|-", "|+", ">-", "|2", "|2-"}).Draw(w.t, "style")
		lines := rapid.SliceOfN(rapid.SampledFrom([]string{"x", " indented", "", "\ttab", "# not a comment", "a: b", "trailing "}), 1, 4).Draw(w.t, "lines")
		fmt.Fprintf(&w.b, " %s\n%s first\n", style, pad[:len(pad)-2]+"  ")
		for _, line := range lines {
			if line == "" {
				w.b.WriteString("\n")
				continue
			}
			fmt.Fprintf(&w.b, "%s %s\n", pad, line)
		}
	case "list":
		w.b.WriteString("\n")
		for range rapid.IntRange(1, 3).Draw(w.t, "items") {
			fmt.Fprintf(&w.b, "%s- %s\n", pad, rapid.SampledFrom(scalars()).Draw(w.t, "item"))
		}
	case "map":
		w.b.WriteString("\n")
		w.mapping(indent+2, depth-1)
	case "anchored":
		w.next++
		name := fmt.Sprintf("m%d", w.next)
		fmt.Fprintf(&w.b, " &%s\n", name)
		w.mapping(indent+2, depth-1)
		w.anchors = append(w.anchors, name)
	case "alias":
		if len(w.anchors) > 0 {
			fmt.Fprintf(&w.b, " *%s\n", rapid.SampledFrom(w.anchors).Draw(w.t, "anchor"))
			return
		}
		fallthrough
	default:
		fmt.Fprintf(&w.b, " %s\n", rapid.SampledFrom(scalars()).Draw(w.t, "scalar"))
	}
}

// conf is what the Collector makes of a file.
func conf(body []byte) (*confmap.Conf, error) {
	retrieved, err := confmap.NewRetrievedFromYAML(body)
	if err != nil {
		return nil, err
	}
	return retrieved.AsConf()
}

// TestMergeIsTheCollectors: what the Collector makes of our merged file is what
// it makes of the files themselves; and merging is repeatable.
func TestMergeIsTheCollectors(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := confmap.New()
		var docs []*Doc
		for i := range rapid.IntRange(1, 3).Draw(t, "files") {
			w := &writer{t: t}
			// A top that is all text: the Collector refuses anything else.
			for _, key := range rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"receivers", "a", "b", "service"}), 1, 3, func(s string) string { return s }).Draw(t, "top") {
				fmt.Fprintf(&w.b, "%s:", key)
				w.value(0, 3)
			}
			body := []byte(w.b.String())
			doc, problems := Parse(fmt.Sprint(i), body, Limits{})
			theirs, err := conf(body)
			if doc == nil {
				if err == nil && problems[0].Rule != "duplicate" {
					t.Fatalf("we refuse what the Collector takes: %v\n%s", problems, body)
				}
				t.SkipNow()
			}
			if err != nil {
				t.Fatalf("the Collector refuses what we take: %v\n%s", err, body)
			}
			if err := want.Merge(theirs); err != nil {
				t.Fatal(err)
			}
			docs = append(docs, doc)
		}
		merged, problems := Merge(docs, Limits{})
		if merged == nil {
			t.Fatalf("merging: %v", problems)
		}
		got, err := conf(merged.Body)
		if err != nil {
			t.Fatalf("the Collector does not take our merge: %v\n%s", err, merged.Body)
		}
		if diff := cmp.Diff(want.ToStringMap(), got.ToStringMap(), cmpopts.EquateNaNs()); diff != "" {
			t.Fatalf("-theirs +ours\n%s\n%s", diff, merged.Body)
		}
		if again, _ := Merge(docs, Limits{}); !bytes.Equal(again.Body, merged.Body) {
			t.Fatal("merging again gives another body")
		}
	})
}
