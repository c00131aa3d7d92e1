package main

import (
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/bellwether-opamp/bellwether/internal/web"
	"github.com/bellwether-opamp/bellwether/rollout"
)

// Rules of the terminal: colours only on a terminal and never with NO_COLOR; the
// same words as the API; nothing moves that did not change.

// settled says how many members of the attempt are settled.
func settled(r web.Rollout) string {
	done, all := 0, 0
	for _, w := range r.Waves {
		done += w.Results[rollout.OK.String()] + w.Results[rollout.Failed.String()] + w.Results[rollout.Inconclusive.String()]
		all += w.Size
	}
	return fmt.Sprintf("%d/%d", done, all)
}

func failed(r web.Rollout) int {
	n := 0
	for _, w := range r.Waves {
		n += w.Results[rollout.Failed.String()]
	}
	return n
}

// sentence is a rollout in one line, without its name.
func sentence(r web.Rollout) string {
	line := r.Phase.String()
	if strings.HasPrefix(r.Reason, line) {
		return r.Reason
	}
	if r.Hold != rollout.NoHold {
		line += " (" + r.Hold.String() + ")"
	}
	if r.Reason != "" {
		line += ": " + r.Reason
	}
	return line
}

// waveMark shows which waves are done, which is worked, and which wait.
func waveMark(r web.Rollout, i int) string {
	switch {
	case r.Phase == rollout.Completed, i < r.Wave:
		return "✓"
	case i > r.Wave:
		return "·"
	case r.Phase == rollout.Progressing:
		return "▶"
	case r.Phase == rollout.Paused:
		return "‖"
	}
	return "✗"
}

// waveLine is one wave in numbers: "4 agents: 3 OK, 1 InFlight, bake 2s".
func waveLine(w web.Wave) string {
	line := plural(w.Size, "agent")
	if n := counts(w.Results); n != "" {
		line += ": " + n
	}
	if w.Bake != "" {
		line += ", bake " + w.Bake
	}
	return line
}

// plural is a number of things: "1 agent", "2 agents".
func plural(n int, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return fmt.Sprintf("%d %ss", n, thing)
}

// palette colours words, or does not.
type palette struct{ on bool }

func newPalette(w io.Writer) palette {
	_, no := os.LookupEnv("NO_COLOR")
	return palette{on: !no && isTerminal(w)}
}

// isTerminal reports whether w is a character device: a terminal.
func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0 && f.Name() != os.DevNull && os.Getenv("TERM") != "dumb"
}

func (p palette) paint(code, text string) string {
	if !p.on || text == "" {
		return text
	}
	return "\x1b[" + code + "m" + text + "\x1b[0m"
}

func (p palette) green(s string) string  { return p.paint("32", s) }
func (p palette) red(s string) string    { return p.paint("31", s) }
func (p palette) yellow(s string) string { return p.paint("33", s) }
func (p palette) bold(s string) string   { return p.paint("1", s) }
func (p palette) dim(s string) string    { return p.paint("2", s) }

// bar draws a wave agent by agent, or in cells when there are too many.
func (p palette) bar(w web.Wave, width int) string {
	cells := min(width, w.Size)
	if cells <= 0 {
		return ""
	}
	var b strings.Builder
	drawn, seen := 0, 0
	segment := func(result rollout.Result, glyph string, colour func(string) string) {
		seen += w.Results[result.String()]
		upTo := seen * cells / w.Size
		b.WriteString(colour(strings.Repeat(glyph, max(0, upTo-drawn))))
		drawn = max(drawn, upTo)
	}
	segment(rollout.OK, "█", p.green)
	segment(rollout.Failed, "█", p.red)
	segment(rollout.Inconclusive, "▒", p.yellow)
	segment(rollout.InFlight, "▓", p.yellow)
	segment(rollout.Deferred, "○", p.dim)
	b.WriteString(p.dim(strings.Repeat("░", cells-drawn)))
	return b.String()
}

// wrap breaks a text into lines of at most width characters, at spaces.
func wrap(text string, width int) []string {
	var lines []string
	line := ""
	for word := range strings.FieldsSeq(text) {
		if line != "" && len([]rune(line))+1+len([]rune(word)) > width {
			lines = append(lines, line)
			line = ""
		}
		if line != "" {
			line += " "
		}
		line += word
	}
	return append(lines, line)
}

// picture draws a rollout on several lines, each ended and none wider than the
// terminal, as long as that is not very narrow.
func (p palette) picture(r web.Rollout, width int) string {
	var b strings.Builder
	phase := p.bold(r.Phase.String())
	switch r.Phase {
	case rollout.Completed:
		phase = p.green(phase)
	case rollout.Paused, rollout.RollingBack, rollout.RolledBack:
		phase = p.red(phase)
	}
	fmt.Fprintf(&b, "%s  %s  config %s  commit %s\n", p.bold(r.Name), phase, r.Target.Short(), short(r.Revision))
	for i, w := range r.Waves {
		fmt.Fprintf(&b, "  %s %-10s %s %s\n", waveMark(r, i), w.Name, p.bar(w, min(40, width-60)), waveLine(w))
	}
	why := r.Reason
	if r.Hold != rollout.NoHold {
		why = r.Hold.String() + ": " + why
	}
	for _, line := range wrap(why, width-2) {
		fmt.Fprintf(&b, "  %s\n", p.dim(line))
	}
	return b.String()
}

// screen redraws a picture in place on a terminal; elsewhere it prints a picture
// only when it has changed.
type screen struct {
	w     io.Writer
	live  bool
	width int
	last  string
	lines int
}

func newScreen(w io.Writer) *screen {
	const narrow, usual = 40, 80
	s := &screen{w: w, live: isTerminal(w), width: usual}
	if f, ok := w.(*os.File); ok && s.live {
		if columns := terminalWidth(f); columns > 0 {
			s.width = max(columns, narrow)
		}
	}
	return s
}

// show draws the picture over the last one.
func (s *screen) show(picture string) {
	if picture == s.last {
		return
	}
	if s.live && s.lines > 0 {
		_, _ = fmt.Fprintf(s.w, "\x1b[%dA\x1b[J", s.lines)
	}
	_, _ = io.WriteString(s.w, picture)
	s.last, s.lines = picture, strings.Count(picture, "\n")
}

// keep leaves what is drawn where it is: the next picture goes below.
func (s *screen) keep() { s.lines, s.last = 0, "" }
