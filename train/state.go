package train

import (
	"encoding/json"
	"errors"
	"io"
	"slices"

	"github.com/seed-b982eded/graft/formats"
)

// TrainerState is trainer_state.json in Hugging Face's layout: what transformers'
// TrainerState.load_from_json reads, keys in its order. Fields that graft has no use
// for are written as their Trainer would for one process.
type TrainerState struct {
	BestGlobalStep      *int      `json:"best_global_step"`
	BestMetric          *float64  `json:"best_metric"` // the best evaluation by [Options.BestMetric]
	BestModelCheckpoint *string   `json:"best_model_checkpoint"`
	Epoch               float64   `json:"epoch"`
	EvalSteps           int       `json:"eval_steps"`
	GlobalStep          int       `json:"global_step"` // optimizer steps done
	IsHyperParamSearch  bool      `json:"is_hyper_param_search"`
	IsLocalProcessZero  bool      `json:"is_local_process_zero"`
	IsWorldProcessZero  bool      `json:"is_world_process_zero"`
	LogHistory          []Point   `json:"log_history"`
	LoggingSteps        int       `json:"logging_steps"`
	MaxSteps            int       `json:"max_steps"`             // of the whole run
	NumInputTokensSeen  int64     `json:"num_input_tokens_seen"` // padding not counted
	NumTrainEpochs      int       `json:"num_train_epochs"`      // rounded up
	SaveSteps           int       `json:"save_steps"`
	StatefulCallbacks   Callbacks `json:"stateful_callbacks"`
	TotalFlos           float64   `json:"total_flos"` // not counted, 0
	TrainBatchSize      int       `json:"train_batch_size"`
	TrialName           *string   `json:"trial_name"`
	TrialParams         *string   `json:"trial_params"`
}

// Callbacks are what Hugging Face's callbacks keep in a state. Nothing of it is read, as
// it follows from the log history.
type Callbacks struct {
	EarlyStopping *EarlyStoppingState `json:"EarlyStoppingCallback,omitempty"`
}

// UnmarshalJSON leaves out what is there.
func (*Callbacks) UnmarshalJSON([]byte) error { return nil }

// EarlyStoppingState is the state of an EarlyStoppingCallback.
type EarlyStoppingState struct {
	Args struct {
		Patience  int     `json:"early_stopping_patience"`
		Threshold float64 `json:"early_stopping_threshold"`
	} `json:"args"`
	Attributes struct {
		Counter int `json:"early_stopping_patience_counter"` // evaluations without an improvement
	} `json:"attributes"`
}

func newEarlyStoppingState(patience int, threshold float64, counter int) *EarlyStoppingState {
	s := &EarlyStoppingState{}
	s.Args.Patience, s.Args.Threshold, s.Attributes.Counter = patience, threshold, counter
	return s
}

// Write writes the file, indented by two spaces. A failure is a [formats.ErrOutput].
func (s TrainerState) Write(w io.Writer) error {
	if s.LogHistory == nil {
		s.LogHistory = []Point{} // an empty list, as null would not load
	}
	text, err := json.MarshalIndent(s, "", "  ")
	if err == nil {
		_, err = w.Write(append(text, '\n'))
	}
	if err != nil {
		return &formats.Error{Class: formats.ErrOutput, Detail: "writing the trainer state", Err: err}
	}
	return nil
}

// ReadTrainerState reads what [TrainerState.Write] or Hugging Face's Trainer wrote;
// name is what errors call it. Of log_history it keeps the training and evaluation
// losses. A file that is not such a state is a [formats.ErrInput].
func ReadTrainerState(name string, r io.Reader) (TrainerState, error) {
	text, err := io.ReadAll(io.LimitReader(r, formats.MaxIndexBytes+1))
	if err != nil {
		return TrainerState{}, &formats.Error{Class: formats.ErrInput, File: name, Err: err}
	}
	if len(text) > formats.MaxIndexBytes {
		return TrainerState{}, formats.Rejectf(name, "", "trainer state too large (want at most %d bytes)", formats.MaxIndexBytes)
	}
	s := TrainerState{GlobalStep: -1}
	if err := json.Unmarshal(text, &s); err != nil {
		return TrainerState{}, formats.Rejectf(name, "", "not a trainer state: %s", jsonFault(err))
	}
	if s.GlobalStep < 0 || s.NumInputTokensSeen < 0 {
		return TrainerState{}, formats.Rejectf(name, "", "not a trainer state: global_step is missing, or a count is negative")
	}
	s.LogHistory = slices.DeleteFunc(s.LogHistory, func(p Point) bool { return p == Point{} })
	return s, nil
}

// jsonFault words a type error without Go's names.
func jsonFault(err error) string {
	var kind *json.UnmarshalTypeError
	if errors.As(err, &kind) && kind.Field != "" {
		return "field " + formats.Quote(kind.Field) + " holds a " + kind.Value
	}
	return err.Error()
}
