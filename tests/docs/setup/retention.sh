PATIENT() { labora patient list --name muster --json | pick 'it[0]["id"]'; }
HOLD() { labora db hold list --json | pick 'it[0]["id"]'; }
