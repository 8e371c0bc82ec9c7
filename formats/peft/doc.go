// Package peft reads and writes LoRA adapters as Hugging Face PEFT stores them: a
// directory with adapter_config.json and adapter_model.safetensors.
//
// # How to choose
//
// [Read] opens a directory; open.Adapter calls it. [Write] writes one, with a config
// made by [Config.Encode] or kept from the adapter that was read.
//
// # What is promised
//
// Rank and scale come from the config alone, by PEFT's rules (first pattern in file
// order), and the factors must agree with them. Every tensor and every option is used
// or refused by name: other methods, changed-base initialisations
// and options that graft does not know do not pass silently. What is written loads in
// PEFT with the same numbers.
//
// Written against PEFT 0.21.
package peft
