package models

import (
	"encoding/json"
	"path"
	"strings"

	"github.com/seed-b982eded/graft/formats"
	"github.com/seed-b982eded/graft/internal/strictjson"
)

// Pooling says how one embedding is made of a text's tokens.
type Pooling string

// The poolings.
const (
	MeanPooling  Pooling = "mean" // the mean of all tokens, special ones too
	FirstPooling Pooling = "cls"  // the first token
	MaxPooling   Pooling = "max"  // the largest of each element
)

// SentenceConfig is what the files of a sentence-transformers directory say about the way
// from tokens to an embedding.
type SentenceConfig struct {
	Pooling   Pooling
	Normalize bool // embeddings are divided by their length
	MaxTokens int  // the longest text, special tokens included; 0 is the model's own
}

// ReadSentenceConfig reads modules.json and the files that it names. Without a modules.json
// the tokens are averaged, as sentence-transformers does with a plain encoder. Modules
// and options that are not implemented are a [formats.ErrInput].
func ReadSentenceConfig(ckpt *formats.Checkpoint) (SentenceConfig, error) {
	cfg := SentenceConfig{Pooling: MeanPooling}
	if _, ok := ckpt.SideFile("sentence_bert_config.json"); ok {
		doc, err := readConfig(ckpt, "sentence_bert_config.json")
		if err != nil {
			return cfg, err
		}
		if n, ok := doc.Get("max_seq_length").(strictjson.Number); ok {
			if i, err := n.Int(); err == nil && i > 0 && i <= maxDimension {
				cfg.MaxTokens = int(i)
			}
		}
	}
	if _, ok := ckpt.SideFile("modules.json"); !ok {
		return cfg, nil
	}
	text, err := ckpt.ReadSideFile("modules.json", formats.MaxConfigBytes)
	if err != nil {
		return cfg, err
	}
	var modules []struct{ Path, Type string }
	if err := json.Unmarshal(text, &modules); err != nil {
		return cfg, formats.Rejectf(ckpt.Path(), "", "modules.json: not a list of modules: %v", err)
	}
	pooled := false
	for i, m := range modules {
		kind := m.Type[strings.LastIndexByte(m.Type, '.')+1:]
		switch {
		case kind == "Transformer" && i == 0 && m.Path == "":
		case kind == "Pooling" && i == 1:
			pooled = true
			if cfg.Pooling, err = readPooling(ckpt, path.Join(m.Path, "config.json")); err != nil {
				return cfg, err
			}
		case kind == "Normalize" && i == 2:
			cfg.Normalize = true
		default:
			return cfg, formats.Rejectf(ckpt.Path(), "", "modules.json: module %d, %s at %s, is not implemented (want Transformer, Pooling and perhaps Normalize)", i, formats.Quote(m.Type), formats.Quote(m.Path))
		}
	}
	if !pooled {
		return cfg, formats.Rejectf(ckpt.Path(), "", "modules.json: no module Pooling")
	}
	return cfg, nil
}

// poolingFlags are the options of a pooling's config that choose a way, where there is no
// pooling_mode.
var poolingFlags = map[string]Pooling{
	"pooling_mode_cls_token": FirstPooling, "pooling_mode_mean_tokens": MeanPooling, "pooling_mode_max_tokens": MaxPooling,
}

// readPooling reads the config of a Pooling module, in the form of any release.
func readPooling(ckpt *formats.Checkpoint, name string) (Pooling, error) {
	doc, err := readConfig(ckpt, name)
	if err != nil {
		return "", err
	}
	var chosen []Pooling
	for _, key := range doc.Keys {
		value := doc.Get(key)
		switch {
		case key == "pooling_mode":
			mode, _ := value.(string)
			if p := Pooling(mode); p == MeanPooling || p == FirstPooling || p == MaxPooling {
				chosen = append(chosen, p)
				continue
			}
			return "", formats.Rejectf(ckpt.Path(), "", "%s: pooling_mode %s is not implemented (want cls, mean or max)", name, show(value))
		case strings.HasPrefix(key, "pooling_mode_") && value == true:
			p, ok := poolingFlags[key]
			if !ok {
				return "", formats.Rejectf(ckpt.Path(), "", "%s: %s is not implemented (want cls_token, mean_tokens or max_tokens)", name, key)
			}
			chosen = append(chosen, p)
		}
	}
	switch len(chosen) {
	case 0:
		return MeanPooling, nil
	case 1:
		return chosen[0], nil
	}
	return "", formats.Rejectf(ckpt.Path(), "", "%s: several poolings side by side are not implemented (want one of cls_token, mean_tokens and max_tokens)", name)
}
