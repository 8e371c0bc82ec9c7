package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/seed-b982eded/graft/formats"
	"github.com/seed-b982eded/graft/internal/atomicfile"
	"github.com/seed-b982eded/graft/train"
)

// checkpoints are the directories OUT/checkpoint-N of one run. Each appears whole, by a
// rename, and stays until newer ones of the same run take its place.
type checkpoints struct {
	out   string
	print func() (*trainFingerprint, error) // called when the first is written or read
	every int                               // steps between those that stay
	limit int                               // how many stay; 0 is all
	steps []int                             // those that there are, in order
}

// name returns the path of a step's checkpoint.
func (k *checkpoints) name(step int) string {
	return filepath.Join(k.out, fmt.Sprintf("checkpoint-%d", step))
}

// last returns the newest checkpoint, "" if there is none.
func (k *checkpoints) last() string {
	if k == nil || len(k.steps) == 0 {
		return ""
	}
	return k.name(k.steps[len(k.steps)-1])
}

// save writes a checkpoint: what fill makes of an adapter's directory, and the snapshot.
func (k *checkpoints) save(s train.Snapshot, fill func(dir string, state train.TrainerState) error) error {
	print, err := k.print()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(k.out, 0o777); err != nil {
		return formats.Outputf(k.out, formats.Cause(err), "")
	}
	step := s.State.GlobalStep
	others := slices.DeleteFunc(slices.Clone(k.steps), func(n int) bool { return n == step })
	state := s.State
	k.steps = append(others, step)
	k.nameBest(&state)
	s.State = state
	err = publishDir(k.name(step), true, func(dir string) error {
		if err := fill(dir, state); err != nil {
			return err
		}
		return writeResume(dir, s, print)
	})
	if err != nil {
		k.steps = others
		os.Remove(k.out) // if it is empty
	}
	return err
}

// nameBest says which checkpoint the best evaluation has, if it has one.
func (k *checkpoints) nameBest(state *train.TrainerState) {
	if best := state.BestGlobalStep; best != nil && slices.Contains(k.steps, *best) {
		name := k.name(*best)
		state.BestModelCheckpoint = &name
	}
}

// rotate removes what shall not stay: checkpoints of steps that are no multiples of every,
// as Ctrl-C leaves them, and of the others, as Hugging Face's rotate_checkpoints, all but the
// newest ones, among which the best counts.
func (k *checkpoints) rotate(best *int) {
	kept := k.kept(best)
	for _, step := range k.steps {
		if !slices.Contains(kept, step) {
			os.Remove(filepath.Join(k.name(step), resumeFacts)) // first: half of one is none
			os.RemoveAll(k.name(step))
		}
	}
	k.steps = kept
}

// kept lists the steps that rotate leaves.
func (k *checkpoints) kept(best *int) []int {
	kept := slices.DeleteFunc(slices.Clone(k.steps), func(n int) bool { return k.every == 0 || n%k.every != 0 })
	if k.limit == 0 {
		return kept
	}
	protected := func(i int) bool { return i == len(kept)-1 || best != nil && kept[i] == *best }
	for i := 0; len(kept) > k.limit && i < len(kept); {
		if protected(i) {
			i++
		} else {
			kept = slices.Delete(kept, i, i+1)
		}
	}
	return kept
}

// carry gives the checkpoints that stay a second place below dir, from where they are
// published with the rest.
func (k *checkpoints) carry(dir string, best *int) error {
	k.steps = k.kept(best)
	for _, step := range k.steps {
		from := k.name(step)
		to := filepath.Join(dir, filepath.Base(from))
		if err := os.Mkdir(to, 0o777); err != nil {
			return formats.Outputf(to, formats.Cause(err), "")
		}
		entries, err := os.ReadDir(from)
		if err != nil {
			return formats.Outputf(from, formats.Cause(err), "")
		}
		for _, e := range entries {
			if err := linkOrCopy(filepath.Join(from, e.Name()), filepath.Join(to, e.Name())); err != nil {
				return formats.Outputf(filepath.Join(to, e.Name()), formats.Cause(err), "")
			}
		}
	}
	return nil
}

// linkOrCopy gives a file a second name, or copies it where the file system has no links.
func linkOrCopy(from, to string) error {
	if os.Link(from, to) == nil {
		return nil
	}
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o666)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}

var (
	checkpointName = regexp.MustCompile(`^checkpoint-([1-9][0-9]{0,9})$`)
	stagingName    = regexp.MustCompile(`^\.checkpoint-[0-9]+\.graft-|^\.graft-`) // of a run that was killed
)

// stepsIn lists the steps of the checkpoints in a directory, in order, and whether there is
// nothing else.
func stepsIn(dir string) (steps []int, alone bool) {
	entries, err := os.ReadDir(dir)
	alone = err == nil
	for _, e := range entries {
		m := checkpointName.FindStringSubmatch(e.Name())
		switch {
		case m != nil && e.IsDir():
			n, _ := strconv.Atoi(m[1])
			steps = append(steps, n)
		case !stagingName.MatchString(e.Name()):
			alone = false
		}
	}
	slices.Sort(steps)
	return steps, alone
}

// checkTrainOut reports whether a run may write its output. With resume the output may hold
// checkpoints, and nothing else without force.
func checkTrainOut(out string, force, resume bool) error {
	err := atomicfile.Check(out, true, force)
	if err == nil {
		return nil
	}
	info, err2 := os.Lstat(out)
	if err2 != nil || !info.IsDir() {
		return err
	}
	steps, alone := stepsIn(out)
	if len(steps) == 0 || !alone {
		return err
	}
	if resume {
		return nil
	}
	return formats.Outputf(out, nil, "it holds checkpoints of a run that did not finish").
		WithHint("the same command with --resume goes on from step %d, with --force it begins anew", steps[len(steps)-1])
}

// resume returns where to go on: the newest checkpoint that is whole and of this run, nil
// where there is no checkpoint at all. If none is of this run, the error says in what the
// newest differs; if none is whole, what is wrong with it.
func (k *checkpoints) resume(co *console) (*train.Snapshot, error) {
	found, _ := stepsIn(k.out)
	if len(found) == 0 {
		return nil, nil
	}
	print, err := k.print()
	if err != nil {
		return nil, err
	}
	var snapshot *train.Snapshot
	var first error // what is wrong with the newest
	for _, step := range slices.Backward(found) {
		dir := k.name(step)
		facts, err := readFacts(dir)
		if err == nil && facts == nil {
			err = formats.Rejectf(dir, "", "not a checkpoint to resume from: it has no %s", resumeFacts)
		}
		if err == nil && facts.Step != step {
			err = formats.Rejectf(filepath.Join(dir, resumeFacts), "", "step (got %d, want %d)", facts.Step, step)
		}
		if err == nil {
			if diff := print.differences(&facts.trainFingerprint); diff != nil {
				err = formats.Usagef("--resume: %s is of another run, which differs in %s", formats.Quote(dir), strings.Join(diff, ", ")).
					WithHint("resume with the flags and files of that run, or write to another --out")
			}
		}
		if err == nil && snapshot == nil {
			if snapshot, err = readSnapshot(dir, facts); err != nil {
				snapshot = nil
			} else {
				co.note("going on after step %d, from %s", step, dir)
				if facts.Version != bitsVersion() {
					co.note("note: %s wrote it and this is %s: the last bits of the result may be others than those of one", facts.Version, bitsVersion())
				}
			}
		}
		if err == nil {
			k.steps = append(k.steps, step)
		} else if snapshot == nil && first == nil {
			first = err
		}
	}
	if snapshot == nil {
		return nil, first
	}
	if first != nil {
		co.note("note: %v", first)
	}
	slices.Sort(k.steps)
	return snapshot, nil
}

// leftCheckpoint is a failure after which a checkpoint stays to go on from.
type leftCheckpoint struct {
	err error
	dir string
}

func (l *leftCheckpoint) Error() string {
	return fmt.Sprintf("%v; the last good checkpoint is %s", l.err, l.dir)
}
func (l *leftCheckpoint) Unwrap() error { return l.err }
