package main

import (
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/seed-b982eded/graft/formats"
	"github.com/seed-b982eded/graft/formats/adapter"
	"github.com/seed-b982eded/graft/formats/peft"
	"github.com/seed-b982eded/graft/patch"
	"github.com/seed-b982eded/graft/train"
	"github.com/seed-b982eded/graft/train/data"
	"github.com/seed-b982eded/graft/train/models"
)

// lesson is what train runs: a model with the adapter that it trains, and batches.
type lesson struct {
	model   models.Adaptable
	start   *adapter.Adapter
	from    *startingPoint
	source  train.Source
	held    train.Source // nil if nothing is held out
	set     *data.Set    // of source
	heldSet *data.Set    // of held
	classes []string
}

// newLesson reads and loads all that the flags name. The caller closes start.
func newLesson(c *cli.Context, co *console, reads data.ReadOptions, base *formats.Checkpoint) (*lesson, error) {
	l := &lesson{}
	if err := l.prepare(c, co, reads, base); err != nil {
		if l.start != nil {
			l.start.Close()
		}
		return nil, err
	}
	return l, nil
}

func (l *lesson) prepare(c *cli.Context, co *console, reads data.ReadOptions, base *formats.Checkpoint) (err error) {
	task := reads.Task
	if task == data.LanguageModel || c.IsSet("adapter") {
		if l.start, err = startAdapter(c, base); err != nil {
			return err
		}
	}
	read := func(flag string) (records []data.Record, err error) {
		if c.IsSet(flag) {
			records, err = data.ReadFiles([]string{c.String(flag)}, reads)
		}
		return records, err
	}
	if task == data.LanguageModel {
		if l.model, err = models.Load(base); err != nil {
			return err
		}
		if err := l.begin(c, l.start); err != nil {
			return err
		}
	}
	records, err := read("data")
	if err != nil {
		return err
	}
	heldRecords, err := read("eval-data")
	if err != nil {
		return err
	}
	if task != data.LanguageModel {
		n := len(records)
		all := slices.Concat(records, heldRecords)
		if err := l.loadText(c, task, base, all); err != nil {
			return err
		}
		records, heldRecords = all[:n], all[n:]
	}
	return l.load(c, co, task, base, records, heldRecords)
}

// load makes batches of records.
func (l *lesson) load(c *cli.Context, co *console, task data.Task, base *formats.Checkpoint, records, heldRecords []data.Record) error {
	tok, err := openTokenizer(base)
	if err != nil {
		return err
	}
	enc, err := newEncoder(tok, l.model, c.Int("max-length"))
	if err != nil {
		return err
	}
	enc.base, enc.opts.Task, enc.opts.Classes = base, task, l.classes
	if err := enc.readChats(c, slices.Concat(records, heldRecords)); err != nil {
		return err
	}
	set, err := enc.set(c.Context, co, c.String("data"), records)
	if err != nil {
		return err
	}
	var held *data.Set
	switch {
	case c.IsSet("eval-data"):
		held, err = enc.set(c.Context, co, c.String("eval-data"), heldRecords)
	case c.IsSet("eval-share"):
		set, held, err = set.Split(c.Float64("eval-share"), c.Uint64("seed"))
	}
	if err != nil {
		return err
	}
	l.set, l.heldSet = set, held
	if held != nil {
		if l.held, err = data.NewLoader(held, data.LoaderOptions{Rows: c.Int("batch-size"), Pad: enc.pad()}); err != nil {
			return err
		}
	}
	l.source, err = data.NewLoader(set, loaderOptions(c, enc))
	return err
}

// loadText loads the base for a task of whole texts, and puts the adapter on it that is
// trained, with the head.
func (l *lesson) loadText(c *cli.Context, task data.Task, base *formats.Checkpoint, records []data.Record) error {
	var given []*adapter.Adapter
	if l.start != nil {
		given = append(given, l.start)
	}
	t, err := newTextTask(c, task, base, records, given...)
	if err != nil {
		return err
	}
	if l.model, err = t.load(base, false); err != nil {
		return err
	}
	if l.start == nil {
		if l.start, err = freshTextAdapter(c, base, l.model); err != nil {
			return err
		}
	}
	start := l.start
	if m, ok := l.model.(*models.Classifier); ok {
		l.classes = t.classes
		if start, err = withHead(m, start); err != nil {
			return err
		}
	} else if len(records[0].Sentences) == 2 && !t.scored && c.Int("batch-size") < 2 {
		return formats.Usagef("--batch-size must be 2 or more: pairs learn from the others of their batch (got %d)", c.Int("batch-size"))
	}
	return l.begin(c, start)
}

// begin puts the adapter that is trained on the model.
func (l *lesson) begin(c *cli.Context, a *adapter.Adapter) (err error) {
	takenOut := !c.IsSet("adapter") && patch.ChangesBase(c.String("init-lora-weights"))
	l.from, err = beginTraining(l.model, a, inModelOptions(c), takenOut)
	return err
}

// inModelOptions reads the options of what happens inside the model.
func inModelOptions(c *cli.Context) models.TrainOptions {
	return models.TrainOptions{Dropout: c.Float64("lora-dropout"), GradientCheckpointing: c.Bool("gradient-checkpointing")}
}

// withHead adds the head to an adapter and its config.
func withHead(m *models.Classifier, a *adapter.Adapter) (*adapter.Adapter, error) {
	out, err := m.WithHead(a)
	if err != nil || len(out.Entries) == len(a.Entries) {
		return out, err
	}
	cfg, err := peft.ParseConfig(a.Config, peft.ConfigName)
	if err != nil {
		return nil, err
	}
	saved := slices.Concat(cfg.Selection.ModulesToSave, m.HeadModules())
	slices.Sort(saved)
	cfg.Selection.ModulesToSave, cfg.TaskType = slices.Compact(saved), "SEQ_CLS"
	out.Config, out.Selection = cfg.Encode(), &cfg.Selection
	return out, nil
}

// freshTextAdapter makes the adapter that the flags describe for a model of whole texts:
// without the modules of other heads, and without those of its own, which is trained whole.
func freshTextAdapter(c *cli.Context, base *formats.Checkpoint, m models.Adaptable) (*adapter.Adapter, error) {
	view, err := patch.NewModel(base)
	if err != nil {
		return nil, err
	}
	cfg, err := loraConfig(c, view)
	if err != nil {
		return nil, err
	}
	sites, err := patch.Select(view, cfg.Selection)
	if err != nil {
		return nil, err
	}
	head := []string{}
	cfg.TaskType = "FEATURE_EXTRACTION"
	classifier, ok := m.(*models.Classifier)
	if ok {
		head, cfg.TaskType = classifier.HeadModules(), "SEQ_CLS"
	}
	// all-linear becomes a list of what is kept.
	leaveOut := func(module string) {
		if !cfg.Selection.AllLinear && cfg.Selection.ExcludeRegex == "" {
			cfg.Selection.ExcludeModules = append(cfg.Selection.ExcludeModules, module)
		}
	}
	var kept []patch.Site
	for _, s := range sites {
		path, ok := pathIn(m, s.Module)
		if !ok { // of another head
			leaveOut(s.Module)
			continue
		}
		inHead := slices.ContainsFunc(head, func(name string) bool { return strings.Contains("."+path+".", "."+name+".") })
		named := slices.ContainsFunc(head, func(name string) bool { return slices.Contains(cfg.Selection.TargetModules, name) })
		if !inHead || named { // a head that is named is refused with the adapter
			kept = append(kept, s)
		} else {
			leaveOut(path)
		}
	}
	if len(kept) == 0 {
		return nil, formats.Unfitf(base.Path(), "", "--target-modules selects no layer below the head")
	}
	a, err := adapterOn(c.Context, newConsole(c), view, kept, cfg, c.Uint64("seed"))
	if err != nil {
		return nil, err
	}
	a.Entries = slices.DeleteFunc(a.Entries, func(e adapter.Entry) bool { // of this head or another
		_, whole := e.Update.(*adapter.Replace)
		path, ok := pathIn(m, e.Module)
		return whole && (!ok || slices.ContainsFunc(head, func(name string) bool { return strings.Contains("."+path+".", "."+name+".") }))
	})
	for i, e := range a.Entries { // as the modules are called in memory
		a.Entries[i].Module, _ = pathIn(m, e.Module)
	}
	for i, name := range cfg.Selection.TargetModules {
		if path, ok := pathIn(m, name); ok && strings.Count(name, ".") > 1 { // a whole path
			cfg.Selection.TargetModules[i] = path
		}
	}
	a.Config = cfg.Encode()
	return a, nil
}

// pathIn returns the name that a module of a checkpoint has in a model of its body: with the
// body's own prefix, or without.
func pathIn(m models.Adaptable, module string) (string, bool) {
	_, below, _ := strings.Cut(module, ".")
	for _, path := range m.Paths() {
		_, inner, _ := strings.Cut(path, ".")
		if path == module || path == below && below != "" || inner == module {
			return path, true
		}
	}
	return "", false
}
