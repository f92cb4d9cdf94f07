// What fhir-kit-client reads of a server: node client.mjs URL TOKEN PATIENT; one JSON object out.
import { Client } from 'fhir-kit-client';

const [, , baseUrl, token, patient] = process.argv;
const client = new Client({ baseUrl, bearerToken: token });
const metadata = await client.smartAuthMetadata();
const read = await client.read({ resourceType: 'Patient', id: patient });
const found = await client.search({ resourceType: 'Observation', searchParams: { patient, _count: 2, _sort: '_lastUpdated' } });
const ids = found.entry.map((one) => one.resource.id);
let page = found;
while ((page = await client.nextPage({ bundle: page }))) {
  ids.push(...(page.entry ?? []).map((one) => one.resource.id));
}
const old = await client.resourceHistory({ resourceType: 'Patient', id: patient });
const everything = await client.operation({ resourceType: 'Patient', id: patient, name: 'everything', method: 'GET' });
let missing = 0;
try {
  await client.read({ resourceType: 'Patient', id: '7d1c2f58-3c1f-4a87-9a52-0d2b7f6f0a11' });
} catch (error) {
  missing = error.response.status;
}
process.stdout.write(JSON.stringify({
  token: metadata.tokenUrl?.href ?? null,
  patient: read.id,
  total: found.total ?? null,
  ids,
  versions: old.entry.length,
  everything: everything.entry.map((one) => one.resource.resourceType),
  missing,
}));
