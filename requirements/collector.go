// A core OpenTelemetry Collector: OTLP in, OTLP/HTTP out, and a filter for work in progress.
//
// The filter processor of the contrib distribution is not among Debian's packages. The one below takes its
// place for the test of the configuration in docs/telemetry.md: it is configured the same way, and refuses
// every condition but `attributes["name"] == true`.
package main

import (
	"context"
	"fmt"
	"log"
	"regexp"

	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/confmap"
	"go.opentelemetry.io/collector/confmap/provider/envprovider"
	"go.opentelemetry.io/collector/confmap/provider/fileprovider"
	"go.opentelemetry.io/collector/connector"
	"go.opentelemetry.io/collector/connector/forwardconnector"
	"go.opentelemetry.io/collector/consumer"
	"go.opentelemetry.io/collector/exporter"
	"go.opentelemetry.io/collector/exporter/otlphttpexporter"
	"go.opentelemetry.io/collector/otelcol"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/ptrace"
	"go.opentelemetry.io/collector/processor"
	"go.opentelemetry.io/collector/processor/batchprocessor"
	"go.opentelemetry.io/collector/processor/processorhelper"
	"go.opentelemetry.io/collector/receiver"
	"go.opentelemetry.io/collector/receiver/otlpreceiver"
	"go.opentelemetry.io/collector/service/telemetry/otelconftelemetry"
)

var condition = regexp.MustCompile(`^attributes\["([^"]+)"\] == true$`)

type spans struct {
	Span []string `mapstructure:"span"`
}

type config struct {
	ErrorMode string `mapstructure:"error_mode"`
	Traces    spans  `mapstructure:"traces"`
}

func (c *config) Validate() error {
	for _, one := range c.Traces.Span {
		if !condition.MatchString(one) {
			return fmt.Errorf("not understood here: %s", one)
		}
	}
	return nil
}

// matches tells whether any condition holds for a span's attributes.
func (c *config) matches(attributes pcommon.Map) bool {
	for _, one := range c.Traces.Span {
		value, found := attributes.Get(condition.FindStringSubmatch(one)[1])
		if found && value.Type() == pcommon.ValueTypeBool && value.Bool() {
			return true
		}
	}
	return false
}

func drop(c *config, traces ptrace.Traces) (ptrace.Traces, error) {
	traces.ResourceSpans().RemoveIf(func(of ptrace.ResourceSpans) bool {
		of.ScopeSpans().RemoveIf(func(of ptrace.ScopeSpans) bool {
			of.Spans().RemoveIf(func(span ptrace.Span) bool { return c.matches(span.Attributes()) })
			return of.Spans().Len() == 0
		})
		return of.ScopeSpans().Len() == 0
	})
	if traces.ResourceSpans().Len() == 0 {
		return traces, processorhelper.ErrSkipProcessingData
	}
	return traces, nil
}

func newFilter(
	ctx context.Context, settings processor.Settings, raw component.Config, next consumer.Traces,
) (processor.Traces, error) {
	c := raw.(*config)
	return processorhelper.NewTraces(ctx, settings, raw, next,
		func(_ context.Context, traces ptrace.Traces) (ptrace.Traces, error) { return drop(c, traces) },
		processorhelper.WithCapabilities(consumer.Capabilities{MutatesData: true}))
}

func factories() (otelcol.Factories, error) {
	var made otelcol.Factories
	var err error
	filter := processor.NewFactory(component.MustNewType("filter"),
		func() component.Config { return &config{} },
		processor.WithTraces(newFilter, component.StabilityLevelDevelopment))
	if made.Receivers, err = otelcol.MakeFactoryMap[receiver.Factory](otlpreceiver.NewFactory()); err != nil {
		return made, err
	}
	if made.Processors, err = otelcol.MakeFactoryMap[processor.Factory](batchprocessor.NewFactory(), filter); err != nil {
		return made, err
	}
	if made.Exporters, err = otelcol.MakeFactoryMap[exporter.Factory](otlphttpexporter.NewFactory()); err != nil {
		return made, err
	}
	if made.Connectors, err = otelcol.MakeFactoryMap[connector.Factory](forwardconnector.NewFactory()); err != nil {
		return made, err
	}
	made.Telemetry = otelconftelemetry.NewFactory()
	return made, nil
}

func main() {
	command := otelcol.NewCommand(otelcol.CollectorSettings{
		BuildInfo: component.BuildInfo{Command: "otelcol", Description: "core Collector", Version: "core"},
		Factories: factories,
		ConfigProviderSettings: otelcol.ConfigProviderSettings{ResolverSettings: confmap.ResolverSettings{
			ProviderFactories: []confmap.ProviderFactory{fileprovider.NewFactory(), envprovider.NewFactory()},
		}},
	})
	if err := command.Execute(); err != nil {
		log.Fatal(err)
	}
}
