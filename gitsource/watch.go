package gitsource

import (
	"log/slog"
	"path/filepath"
	"sync"

	"github.com/fsnotify/fsnotify"
)

// watcher turns changes in directories into wake-ups. Events carry no truth:
// they only say when to look. Directories are watched, never files, whose
// watches die when they are replaced; each is added again after every look, for
// it may be another directory by now.
type watcher struct {
	logger  *slog.Logger
	files   chan struct{} // capacity 1
	secrets chan struct{} // capacity 1

	notify  *fsnotify.Watcher // nil until there is something to watch
	failed  bool
	stopped chan struct{}

	mu   sync.Mutex      // guards dirs
	dirs map[string]bool // true: followed; false: secrets only
}

// maxWatches bounds the directories watched; what is beyond waits for the poll.
const maxWatches = 2000

func newWatcher(logger *slog.Logger) *watcher {
	return &watcher{
		logger: logger, files: make(chan struct{}, 1), secrets: make(chan struct{}, 1),
		stopped: make(chan struct{}), dirs: make(map[string]bool),
	}
}

// watch makes these the directories that are watched. It reports whether one of
// the followed ones is new, in which a change may just have been missed.
func (w *watcher) watch(followed, secrets []string) bool {
	if len(followed)+len(secrets) == 0 || w.failed || !w.start() {
		return false
	}
	want := make(map[string]bool)
	for _, dir := range secrets {
		want[dir] = false
	}
	for _, dir := range followed[:min(len(followed), maxWatches)] {
		want[dir] = true
	}
	w.mu.Lock()
	old := w.dirs
	w.dirs = want
	w.mu.Unlock()
	fresh := false
	for dir, follow := range want {
		if err := w.notify.Add(dir); err != nil {
			w.logger.Debug("directory not watched", "path", dir, "err", err)
			w.mu.Lock()
			delete(w.dirs, dir) // fresh when it can be watched
			w.mu.Unlock()
			continue
		}
		if known, ok := old[dir]; follow && (!ok || !known) {
			fresh = true
		}
	}
	for dir := range old {
		if _, ok := want[dir]; !ok {
			_ = w.notify.Remove(dir) // it may be gone already
		}
	}
	return fresh
}

func (w *watcher) start() bool {
	if w.notify != nil {
		return true
	}
	n, err := fsnotify.NewWatcher()
	if err != nil {
		w.failed = true
		w.logger.Warn("no notice of changes on disk: only polling", "err", err)
		return false
	}
	w.notify = n
	go w.run(n)
	return true
}

func (w *watcher) run(n *fsnotify.Watcher) {
	defer close(w.stopped)
	for {
		select {
		case e, ok := <-n.Events:
			if !ok {
				return
			}
			if e.Op == fsnotify.Chmod {
				continue
			}
			w.signal(e.Name)
		case _, ok := <-n.Errors:
			if !ok {
				return
			}
			wake(w.files) // events were lost
		}
	}
}

func (w *watcher) signal(name string) {
	w.mu.Lock()
	followed := w.dirs[filepath.Dir(name)] || w.dirs[name]
	w.mu.Unlock()
	if followed {
		wake(w.files)
	} else {
		wake(w.secrets)
	}
}

func wake(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

func (w *watcher) close() {
	if w.notify != nil {
		w.notify.Close()
		<-w.stopped
	}
}

// secretDirs names the directories of the files that make a login; the files in
// them are replaced, or swapped as a whole, when a secret is rotated.
func (c *Config) secretDirs() []string {
	var dirs []string
	for _, name := range []string{
		c.PasswordFile, c.TokenFile, c.SSHKeyFile, c.SSHKeyPassphraseFile, c.KnownHostsFile,
	} {
		if name == "" {
			continue
		}
		if abs, err := filepath.Abs(name); err == nil {
			dirs = append(dirs, filepath.Dir(abs))
		}
	}
	return dirs
}
