package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/seed-b982eded/graft/formats"
	"github.com/seed-b982eded/graft/formats/safetensors"
	"github.com/seed-b982eded/graft/train"
)

// The files of a checkpoint beside those of a trained adapter. The first holds the exact
// float32 numbers of a run: what is trained, as the adapter's own files need not have it, the
// optimizer's moments, and the parameters of the best evaluation. The second is written last,
// and a checkpoint without it is none to resume from.
const (
	resumeTensors = "resume.safetensors"
	resumeFacts   = "resume.json"
)

// The first parts of the names in resumeTensors. Moments have the words of torch.
const (
	parameterPrefix = "parameter."
	bestPrefix      = "best."
	firstMoment     = "exp_avg."
	secondMoment    = "exp_avg_sq."
	momentumBuffer  = "momentum_buffer."
)

// checkpointFacts is resume.json.
type checkpointFacts struct {
	Schema  string `json:"schema"`
	Step    int    `json:"step"`
	Version string `json:"version"` // of graft; another may compute other last bits
	trainFingerprint
	Pending train.Pending     `json:"pending"`
	Files   map[string]string `json:"files"` // SHA-256 of all other files
}

const checkpointSchema = "graft.checkpoint/1"

// writeResume adds to a checkpoint's directory what a run needs to go on.
func writeResume(dir string, s train.Snapshot, print *trainFingerprint) error {
	path := filepath.Join(dir, resumeTensors)
	var shard formats.Shard
	add := func(name string, values []float32) {
		shard.Tensors = append(shard.Tensors, formats.FromFloat32s(name, []int64{int64(len(values))}, values))
	}
	for i, p := range s.Params {
		add(parameterPrefix+p.Name, p.Data)
		switch m := s.Moments[i]; {
		case m.Second != nil:
			add(firstMoment+m.Name, m.First)
			add(secondMoment+m.Name, m.Second)
		case m.First != nil:
			add(momentumBuffer+m.Name, m.First)
		}
	}
	if best := s.State.BestGlobalStep; best != nil && *best != s.State.GlobalStep {
		for _, v := range s.Best {
			add(bestPrefix+v.Name, v.Data)
		}
	}
	if err := safetensors.Write(context.Background(), path, shard, safetensors.WriteOptions{}); err != nil {
		return err
	}
	facts := checkpointFacts{
		Schema: checkpointSchema, Step: s.State.GlobalStep, Version: bitsVersion(),
		trainFingerprint: *print, Pending: s.Pending,
	}
	var err error
	if facts.Files, err = fileSums(dir); err != nil {
		return formats.Outputf(dir, formats.Cause(err), "")
	}
	text, err := encodeJSON(facts)
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, resumeFacts), text, 0o666)
	}
	if err != nil {
		return formats.Outputf(filepath.Join(dir, resumeFacts), formats.Cause(err), "")
	}
	return nil
}

// bitsVersion names the program as far as its arithmetic may depend on it.
func bitsVersion() string {
	v := readVersion()
	return v.Version + " " + v.Platform
}

// fileSums returns the SHA-256 of all files in a directory but resume.json.
func fileSums(dir string) (map[string]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	sums := map[string]string{}
	for _, e := range entries {
		if e.Name() == resumeFacts {
			continue
		}
		if sums[e.Name()], err = fileSum(filepath.Join(dir, e.Name())); err != nil {
			return nil, err
		}
	}
	return sums, nil
}

func fileSum(path string) (string, error) {
	f, err := safetensors.OpenRegular(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	_, err = io.Copy(h, f)
	return hex.EncodeToString(h.Sum(nil)), err
}

// readFacts reads resume.json of a checkpoint. A nil result without an error says that there
// is none: the checkpoint is another program's, or was being removed.
func readFacts(dir string) (*checkpointFacts, error) {
	path := filepath.Join(dir, resumeFacts)
	if _, err := os.Lstat(path); os.IsNotExist(err) {
		return nil, nil
	}
	f, err := safetensors.OpenRegular(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, formats.MaxIndexBytes+1))
	if err != nil {
		return nil, &formats.Error{Class: formats.ErrInput, File: path, Err: formats.Cause(err)}
	}
	facts := &checkpointFacts{}
	if err := json.Unmarshal(text, facts); err != nil {
		return nil, formats.Rejectf(path, "", "not what a checkpoint is described by")
	}
	if facts.Schema != checkpointSchema {
		return nil, formats.Rejectf(path, "", "schema (got %s, want %s)", formats.Quote(facts.Schema), checkpointSchema)
	}
	if p := facts.Pending; facts.Step < 1 || p.Steps < 0 {
		return nil, formats.Rejectf(path, "", "step and pending steps (got %d and %d, want at least 1 and 0)", facts.Step, p.Steps)
	}
	return facts, nil
}

// readSnapshot reads a checkpoint whose facts are known. A file that is not what was written
// is a [formats.ErrInput].
func readSnapshot(dir string, facts *checkpointFacts) (*train.Snapshot, error) {
	for _, name := range []string{resumeTensors, stateFile} {
		if facts.Files[name] == "" {
			return nil, formats.Rejectf(filepath.Join(dir, resumeFacts), "", "no checksum of %s", name)
		}
	}
	for name, want := range facts.Files {
		path := filepath.Join(dir, name)
		if !filepath.IsLocal(name) || filepath.Base(name) != name {
			return nil, formats.Rejectf(filepath.Join(dir, resumeFacts), "", "%s is no name of a file beside it", formats.Quote(name))
		}
		got, err := fileSum(path)
		if err != nil {
			return nil, err
		}
		if got != want {
			return nil, formats.Rejectf(path, "", "damaged: its SHA-256 is not the one that was written")
		}
	}
	s := &train.Snapshot{Pending: facts.Pending}
	f, err := os.Open(filepath.Join(dir, stateFile))
	if err != nil {
		return nil, &formats.Error{Class: formats.ErrInput, File: filepath.Join(dir, stateFile), Err: formats.Cause(err)}
	}
	defer f.Close()
	if s.State, err = train.ReadTrainerState(filepath.Join(dir, stateFile), f); err != nil {
		return nil, err
	}
	if s.State.GlobalStep != facts.Step {
		return nil, formats.Rejectf(filepath.Join(dir, stateFile), "", "global_step (got %d, want %d)", s.State.GlobalStep, facts.Step)
	}
	return s, readNumbers(filepath.Join(dir, resumeTensors), s)
}

// readNumbers reads the parameters and moments of a snapshot.
func readNumbers(path string, s *train.Snapshot) error {
	ckpt, err := safetensors.Open(path)
	if err != nil {
		return err
	}
	defer ckpt.Close()
	moments := map[string]*train.Moments{}
	moment := func(name string) *train.Moments {
		if moments[name] == nil {
			moments[name] = &train.Moments{Name: name}
		}
		return moments[name]
	}
	for t := range ckpt.Tensors() {
		if t.DType != formats.F32 {
			return formats.Rejectf(path, t.Name, "dtype (got %s, want F32)", t.DType)
		}
		values, err := t.Float32s()
		if err != nil {
			return &formats.Error{Class: formats.ErrInput, File: path, Tensor: t.Name, Err: err}
		}
		kind, name, _ := strings.Cut(t.Name, ".")
		switch kind + "." {
		case parameterPrefix:
			s.Params = append(s.Params, train.Values{Name: name, Data: values})
			moment(name)
		case bestPrefix:
			s.Best = append(s.Best, train.Values{Name: name, Data: values})
		case firstMoment, momentumBuffer:
			moment(name).First = values
		case secondMoment:
			moment(name).Second = values
		default:
			return formats.Rejectf(path, t.Name, "not a parameter or moment")
		}
	}
	for _, m := range moments {
		s.Moments = append(s.Moments, *m)
	}
	slices.SortFunc(s.Moments, func(a, b train.Moments) int { return strings.Compare(a.Name, b.Name) })
	if best := s.State.BestGlobalStep; best != nil && *best == s.State.GlobalStep {
		s.Best = s.Params
	}
	return nil
}
