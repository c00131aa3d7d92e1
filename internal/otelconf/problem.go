package otelconf

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Severity tells a finding that rejects a commit from one that is only shown.
type Severity uint8

// The severities. The zero value is the grave one.
const (
	Error Severity = iota
	Warning
)

// String returns "error" or "warning".
func (s Severity) String() string {
	if s == Warning {
		return "warning"
	}
	return "error"
}

// MarshalText implements [encoding.TextMarshaler] with [Severity.String].
func (s Severity) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// Problem is one finding at one place. Line and Col count from 1; both are zero
// when the whole file is meant, and File is "" when the whole repository is. The
// column counts characters, a tab as one.
type Problem struct {
	File     string   `json:"file"`
	Line     int      `json:"line"`
	Col      int      `json:"col"`
	Rule     string   `json:"rule"` // closed set: C001 to C011, or a word such as "yaml" or "limit"
	Message  string   `json:"message"`
	Severity Severity `json:"severity"`
}

// String returns "file:line:col: rule: message", as editors understand it; parts
// of the place that are not known are left out, and a warning says so.
func (p Problem) String() string {
	var b strings.Builder
	if p.File != "" {
		b.WriteString(p.File)
		b.WriteByte(':')
		if p.Line > 0 {
			fmt.Fprintf(&b, "%d:%d:", p.Line, max(p.Col, 1))
		}
		b.WriteByte(' ')
	}
	b.WriteString(p.Rule)
	b.WriteString(": ")
	if p.Severity == Warning {
		b.WriteString("warning: ")
	}
	b.WriteString(p.Message)
	return b.String()
}

// SortProblems orders by file, line, column, rule and message, and drops exact
// repetitions. It returns the slice, which it changes.
func SortProblems(problems []Problem) []Problem {
	slices.SortFunc(problems, func(a, b Problem) int {
		return cmp.Or(
			strings.Compare(a.File, b.File),
			cmp.Compare(a.Line, b.Line),
			cmp.Compare(a.Col, b.Col),
			strings.Compare(a.Rule, b.Rule),
			strings.Compare(a.Message, b.Message),
			cmp.Compare(a.Severity, b.Severity),
		)
	})
	return slices.Compact(problems)
}

// Failed reports whether any problem is an error.
func Failed(problems []Problem) bool {
	return slices.ContainsFunc(problems, func(p Problem) bool { return p.Severity == Error })
}

// DidYouMean returns ` (did you mean "x"?)` for the known word nearest to word, or
// "" when none is near enough to be a slip of the finger.
func DidYouMean(word string, known ...string) string {
	best, distance := "", 2
	if len(word) > 3 {
		distance = max(2, len(word)/3) + 1
	}
	for _, k := range known {
		if d := EditDistance(strings.ToLower(word), strings.ToLower(k)); d < distance {
			best, distance = k, d
		}
	}
	if best == "" {
		return ""
	}
	return fmt.Sprintf(" (did you mean %q?)", best)
}

// EditDistance is Levenshtein's, in bytes. Words of more than 64 bytes are not worth
// the time and count as 64 apart.
func EditDistance(a, b string) int {
	const long = 64
	if len(a) > long || len(b) > long {
		return long
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := 1; i <= len(a); i++ {
		diagonal := row[0]
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			diagonal, row[j] = row[j], min(row[j]+1, row[j-1]+1, diagonal+cost)
		}
	}
	return row[len(b)]
}
