package gitsource

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"path"
	"runtime/debug"
	"strings"
	"time"

	"github.com/bellwether-opamp/bellwether/internal/fleet"
)

// Config says what to follow. Secrets are read from their files at each use, so
// that they can be rotated without a restart.
type Config struct {
	// URL is http(s)://host/path, ssh://user@host/path, user@host:path, file:///path
	// or a path. A path may be a worktree, a bare repository, or a plain directory
	// that belongs to no repository. A password in it is refused.
	URL    string
	Branch string        // default main; a plain directory has none
	Path   string        // only files below this directory; default "."
	Poll   time.Duration // between two looks, give or take 10 %; default 30 s, at least 10 ms

	// Username goes with a PasswordFile, may go with a TokenFile (default
	// x-access-token), and is the user of an ssh URL that names none (default git).
	// Token and password are both sent as HTTP basic authentication.
	Username     string
	PasswordFile string
	TokenFile    string
	InsecureHTTP bool // send credentials over plain http to hosts that are not this one

	SSHKeyFile           string // required for ssh
	SSHKeyPassphraseFile string
	KnownHostsFile       string // required for ssh
	CAFile               string // PEM, in addition to the system's

	Limits     Limits
	Logger     *slog.Logger // nil discards
	Registerer Registerer   // nil: no metrics

	// OnUpdate is called from the goroutine of [Source.Run] after every look, in
	// order. It must not block for long: nothing is looked at meanwhile.
	OnUpdate func(Update)
}

// Update is the outcome of one look.
type Update struct {
	Snapshot *fleet.Snapshot // nil: nothing new
	Status   fleet.SourceStatus
}

func (c *Config) setDefaults() error {
	set(&c.Branch, "main")
	set(&c.Path, ".")
	set(&c.Poll, 30*time.Second)
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.OnUpdate == nil {
		c.OnUpdate = func(Update) {}
	}
	if c.Poll < 10*time.Millisecond {
		return fmt.Errorf("the git poll interval %s is too short", c.Poll)
	}
	if !validBranch(c.Branch) {
		return fmt.Errorf("%q is not a branch name", c.Branch)
	}
	root := path.Clean(strings.TrimSuffix(c.Path, "/"))
	if path.IsAbs(root) || root == ".." || strings.HasPrefix(root, "../") {
		return fmt.Errorf("the git path %q does not stay inside the repository", c.Path)
	}
	c.Path = root
	return c.Limits.setDefaults()
}

// validBranch refuses what git-check-ref-format refuses, as far as a name could
// mean something else to a server or to a file system.
func validBranch(name string) bool {
	if name == "" || len(name) > 250 || strings.HasPrefix(name, "-") || strings.HasPrefix(name, "refs/") ||
		strings.Contains(name, "..") || strings.Contains(name, "@{") || strings.HasSuffix(name, ".") {
		return false
	}
	for part := range strings.SplitSeq(name, "/") {
		if part == "" || strings.HasPrefix(part, ".") || strings.HasSuffix(part, ".lock") {
			return false
		}
	}
	return !strings.ContainsFunc(name, func(r rune) bool {
		return r <= ' ' || r == 0x7f || strings.ContainsRune(`~^:?*[\`, r)
	})
}

// remote is what is followed: a server, a repository on disk, a directory. Only
// the goroutine of Run calls it.
type remote interface {
	// tip names the newest revision.
	tip(ctx context.Context) (string, error)
	// fetch loads the newest revision as of now, which may be newer than the tip.
	fetch(ctx context.Context) (fleet.Snapshot, error)
	// watched names directories in which a change calls for a look.
	watched() []string
	close()
}

// Source follows one branch. [Source.Run] owns everything but the poke channel.
type Source struct {
	cfg      Config
	remote   remote
	metrics  *metrics
	pokes    chan struct{} // capacity 1
	schedule schedule
	secrets  []string // directories of secret files
	behind   bool     // a server that may be answered by replicas

	status    fleet.SourceStatus
	refused   string    // tip that need not be fetched again, and
	refusal   *failure  // why
	before    string    // revision published before Head
	published time.Time // when Head was published
	doubted   string    // tip that went back and is looked at twice
}

// New checks the configuration, and that every file it names can be read. It
// starts nothing and connects to nothing. Errors are one line, fit for the end
// of a start-up.
func New(cfg Config) (*Source, error) {
	if err := cfg.setDefaults(); err != nil {
		return nil, err
	}
	l, err := parseLocation(cfg.URL)
	if err != nil {
		return nil, err
	}
	if l.user != "" && l.protocol == overHTTP && cfg.Username == "" {
		cfg.Username = l.user
	}
	if err := cfg.checkLogin(l); err != nil {
		return nil, err
	}
	s := newSource(cfg, nil, l.text)
	s.remote, err = newRemote(&s.cfg, l)
	if err != nil {
		return nil, err
	}
	s.behind = l.protocol != onDisk
	s.secrets = cfg.secretDirs()
	return s, nil
}

func newRemote(cfg *Config, l location) (remote, error) {
	r := &gitRemote{branch: cfg.Branch, root: cfg.Path, limits: cfg.Limits}
	var err error
	switch l.protocol {
	case overHTTP:
		r.transport, err = newHTTPTransport(cfg, l)
	case overSSH:
		r.transport, err = newSSHTransport(cfg, l)
	default:
		return newLocal(cfg, l.path)
	}
	return r, err
}

func newSource(cfg Config, r remote, url string) *Source {
	return &Source{
		cfg: cfg, remote: r, metrics: newMetrics(cfg.Registerer),
		pokes:    make(chan struct{}, 1),
		schedule: schedule{poll: cfg.Poll, random: rand.Float64},
		status:   fleet.SourceStatus{URL: url, Branch: cfg.Branch},
	}
}

// Poke asks for a look now: a webhook came, or an operator asked. It never
// blocks; many pokes are one. Anybody may call it at any time.
func (s *Source) Poke() {
	select {
	case s.pokes <- struct{}{}:
	default:
	}
}

// Run looks until ctx ends, and returns nil then. It may be called once.
func (s *Source) Run(ctx context.Context) error {
	defer s.remote.close()
	w := newWatcher(s.cfg.Logger)
	defer w.close()
	w.watch(nil, s.secrets) // before they are read for the first time
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
			s.look(ctx)
			if ctx.Err() != nil {
				return nil
			}
			if w.watch(s.remote.watched(), s.secrets) {
				s.schedule.changed(time.Now())
			}
		case <-s.pokes:
			s.schedule.poke(time.Now())
		case <-w.files:
			s.schedule.changed(time.Now())
		case <-w.secrets:
			if Reason(s.status.Reason).locked() {
				s.schedule.changed(time.Now())
			}
		}
		timer.Reset(s.schedule.wait(time.Now()))
	}
}

// look is one round: tip, fetch if it has moved, and the word about it.
func (s *Source) look(ctx context.Context) {
	s.schedule.began(time.Now())
	snapshot, again, err := s.observe(ctx)
	if ctx.Err() != nil {
		return // we were stopped; what failed says nothing
	}
	now := time.Now()
	var f *failure
	if err != nil {
		f = classify(err)
	}
	s.schedule.done(now, f)
	if again {
		s.schedule.recheck(now)
	}
	s.note(f)
	s.status.NextPoll = s.schedule.next
	if snapshot != nil {
		s.before, s.published = s.status.Head.ID, now
		s.status.Head, s.status.Branch = snapshot.Revision, snapshot.Revision.Branch
		s.metrics.head(snapshot.Revision)
		s.cfg.Logger.Info("revision fetched", "revision", snapshot.Revision.ID, "count", len(snapshot.Files))
	}
	s.cfg.OnUpdate(Update{Snapshot: snapshot, Status: s.status})
}

// note writes the outcome into the status, and into the log when it has changed.
func (s *Source) note(f *failure) {
	s.status.Failures = s.schedule.failures
	was := s.status.Reason
	if f == nil {
		s.status.Reason, s.status.Message = "", ""
		if was != "" {
			s.cfg.Logger.Info("git source is well again", "url", s.status.URL)
		}
		return
	}
	s.status.Reason, s.status.Message = string(f.reason), printable(f.Error(), maxMessage)
	if was != s.status.Reason {
		s.cfg.Logger.Warn("git source is not well", "url", s.status.URL,
			"reason", s.status.Reason, "err", s.status.Message)
	}
}

// observe asks for the tip and fetches what is new. again asks for a second look
// soon.
func (s *Source) observe(ctx context.Context) (snapshot *fleet.Snapshot, again bool, err error) {
	defer func() {
		if p := recover(); p != nil {
			s.cfg.Logger.Error("bug in the git source", "err", fmt.Sprint(p), "stack", string(debug.Stack()))
			snapshot, err = nil, fail(Internal, "a bug in the git source was caught; see the log")
		}
	}()
	tip, err := s.ask(ctx)
	switch {
	case err != nil:
		return nil, false, err
	case tip == s.status.Head.ID:
		s.refused, s.doubted = "", ""
		return nil, false, nil
	case tip == s.refused:
		return nil, false, s.refusal
	case s.suspect(tip):
		s.doubted = tip
		return nil, true, nil
	}
	snapshot, err = s.load(ctx, tip)
	return snapshot, false, err
}

// suspect reports whether tip is the revision from before the last one, seen
// shortly after that: some forges are read through replicas that lag. It is
// believed when it is still there at the next look.
func (s *Source) suspect(tip string) bool {
	return s.behind && tip == s.before && tip != s.doubted && time.Since(s.published) < 2*s.cfg.Poll
}

func (s *Source) ask(ctx context.Context) (string, error) {
	start := time.Now()
	tip, err := s.remote.tip(ctx)
	s.count(ctx, lsRemote, err, start)
	if err == nil {
		s.status.LastSuccess = time.Now()
		s.metrics.answered(s.status.LastSuccess)
	}
	return tip, err
}

func (s *Source) load(ctx context.Context, tip string) (*fleet.Snapshot, error) {
	start := time.Now()
	s.refused, s.refusal = tip, &failure{reason: Internal, err: fmt.Errorf("revision %s could not be read", tip)}
	snapshot, err := s.remote.fetch(ctx)
	s.refused, s.doubted = "", ""
	s.count(ctx, fetching, err, start)
	if err != nil {
		if f := classify(err); f.reason.final() {
			s.refused, s.refusal = tip, f
		}
		return nil, err
	}
	if snapshot.Revision.ID == s.status.Head.ID {
		return nil, nil // it went back between the two questions
	}
	return &snapshot, nil
}

func (s *Source) count(ctx context.Context, kind string, err error, start time.Time) {
	if ctx.Err() != nil {
		return
	}
	var f *failure
	if err != nil {
		f = classify(err)
	}
	s.metrics.request(kind, f, time.Since(start))
}
