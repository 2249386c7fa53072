"""The kinds of fault that once went by in silence, each with a test that holds it: one row per fault."""

from __future__ import annotations

from typing import NamedTuple


class Fault(NamedTuple):
    """One fault.

    Attributes
    ----------
    area : str
        Where it shows.
    fault : str
        The fault, as it was before it was mended.
    test : str
        The test that fails when it comes back: the file below `tests/`, and the function or class.
    """

    area: str
    fault: str
    test: str


# fmt: off
FAULTS = (
    # failures reach whoever can act
    Fault("failures", "a function that failed on most records counted them as rows", "recursion/test_failed_verbs.py::test_a_function_that_fails_on_most_records_raises"),
    Fault("failures", "failed rows were part of count()", "recursion/test_failed_verbs.py::test_failed_rows_are_on_no_way_into_other_verbs"),
    Fault("failures", "a function that fails on everything ran over all records", "recursion/test_failed_verbs.py::test_a_function_that_fails_on_everything_is_stopped_early"),
    Fault("failures", "a filter that failed on some records dropped them", "recursion/test_failed_verbs.py::test_a_filter_that_fails_on_some_has_them_in_failed"),
    Fault("failures", "every sub-call failed and the answer was complete", "recursion/test_failed_verbs.py::test_sub_calls_that_all_fail_never_make_a_complete_answer"),
    Fault("failures", "the person saw no failure, and the exit code was 0", "recursion/test_failed_verbs.py::test_the_person_gets_the_same_and_exit_code_3"),
    Fault("failures", "an aggregate left out the batches that failed", "recursion/test_failed_verbs.py::test_an_aggregate_that_fails_raises_or_leaves_the_batch_out"),
    # wrong settings
    Fault("settings", "a model that does not exist was asked for every record", "models/test_probe.py::test_a_model_that_is_not_there_is_named_with_those_that_are"),
    Fault("settings", "a wrong key behind a proxy that says 400 was retried", "models/test_probe.py::test_a_proxy_that_says_400_for_a_wrong_key"),
    Fault("settings", "an address without a scheme booked calls that never left", "models/test_probe.py::test_an_address_without_a_scheme"),
    Fault("settings", "nothing listens, and the run began all the same", "models/test_probe.py::test_nothing_listens"),
    Fault("settings", "the command went on after a wrong setting", "models/test_probe.py::test_the_command_ends_with_2"),
    Fault("settings", "the form of a reply did not step down", "models/test_dialect.py::test_steps_down_one_form_at_a_time"),
    Fault("settings", "Retry-After of a day outlasted the run", "models/test_client.py::test_no_endless_retry_after"),
    Fault("settings", "a proxy's name for Retry-After was not read", "models/test_thoughts.py::test_every_form_of_retry_after"),
    Fault("settings", "a bad leaf cost hundreds of requests, since each group tried it", "recursion/test_batches.py::test_a_batch_of_many_groups_stops_after_a_dozen_unusable_replies"),
    Fault("settings", "a session asked a model that does not exist, record by record", "models/test_probe.py::test_a_session_looks_before_its_first_call"),
    # replies
    Fault("replies", "records with a column n got each other's labels", "subcalls/test_numbered.py::test_a_column_named_n"),
    Fault("replies", "the number's key could be a column", "subcalls/test_numbered.py::test_the_number_has_a_key_that_no_record_has"),
    Fault("replies", "a number out of range was left out, the rest was believed", "subcalls/test_numbered.py::test_a_number_of_no_record_makes_the_reply_suspect"),
    Fault("replies", "an answer set when nothing was read was complete", "recursion/test_loop.py::test_an_unread_answer_is_questioned_once_and_never_complete"),
    Fault("replies", "thoughts were run as code", "models/test_thoughts.py::test_thoughts_are_left_out"),
    Fault("replies", "an error with status 200 was a reply", "models/test_client.py::test_an_error_with_status_200"),
    Fault("replies", "null and lists of parts were no replies", "models/test_client.py::test_content_in_parts_and_empty"),
    Fault("replies", "a reply that drips held its place", "models/test_client.py::test_a_reply_that_drips_is_late"),
    Fault("replies", "a model that repeats a turn was told nothing", "recursion/test_loop.py::test_a_turn_that_repeats_the_one_before_is_told_so_as_the_last_turn_is"),
    # the budget
    Fault("budget", "equal calls of threads were paid for each", "recursion/test_underway.py::test_threads_that_ask_the_same"),
    Fault("budget", "batches that overlap paid twice", "recursion/test_underway.py::test_batches_that_overlap"),
    Fault("budget", "results over the same records paid twice", "recursion/test_underway.py::test_results_over_the_same_records"),
    Fault("budget", "a sandbox replaced in mid-batch paid again", "recursion/test_underway.py::test_a_sandbox_that_is_replaced_in_mid_batch"),
    Fault("budget", "a block given back late passed the limit of requests a minute", "models/test_rates.py::test_an_unused_block_that_comes_back_late_is_not_used_beside_what_has_filled_up_since"),
    Fault("budget", "equal calls were paid for each", "recursion/test_batches.py::test_equal_questions_are_asked_once"),
    Fault("budget", "a recursive call that could not start kept its slice", "recursion/test_recursive_calls.py::test_a_call_that_cannot_start_gives_its_slice_back_whole"),
    Fault("budget", "a group that could not start kept its slice", "recursion/test_batches.py::test_a_group_that_cannot_start_gives_its_slice_back_whole"),
    Fault("budget", "spent, reserved and left did not add up after a failure", "recursion/test_budget_machine.py::Money"),
    Fault("budget", "a call that could not connect was charged", "models/test_client.py::test_cannot_connect_costs_nothing"),
    # resuming
    Fault("resume", "a run that was killed before its manifest could not begin again", "test_runs.py::test_a_run_that_was_killed_before_its_manifest_goes_on"),
    Fault("resume", "a run directory that vanished ended with exit code 0", "test_runs.py::test_a_run_directory_that_vanishes_is_an_error"),
    Fault("resume", "resume of a job's run left out findings, report and exit code", "test_runs.py::test_resume_ends_a_job_as_the_job_ends"),
    Fault("resume", "the beginning of an id named no run", "test_runs.py::test_the_beginning_of_an_id_names_a_run"),
    Fault("resume", "a path was taken for the text", "test_runs.py::test_a_name_of_data_is_no_text"),
    Fault("resume", "many asks in one process left files and threads", "test_runs.py::test_many_asks_leave_no_file_no_thread_and_no_memory"),
    # coverage
    Fault("coverage", "what a model was shown counted as the bytes of whole rows", "recursion/test_coverage_of_verbs.py::test_what_a_model_was_shown_is_counted_in_characters_not_in_bytes_of_whole_rows"),
    Fault("coverage", "unattributed calls were counted in records", "recursion/test_coverage_of_verbs.py::test_packs_of_texts_are_counted_as_calls"),
    # Ray
    Fault("ray", "the embedded Ray began when it was needed, and cost a turn", "cluster/test_connect.py::test_an_embedded_ray_is_started_in_the_background_and_once"),
    Fault("ray", "without Ray little data could not be read", "cluster/test_connect.py::test_without_ray_little_data_is_worked_on_by_threads"),
    Fault("ray", "without Ray turns were paid for nothing", "cluster/test_connect.py::test_without_ray_other_data_ends_with_one_clear_error_and_no_turn_is_paid_for_it"),
    Fault("ray", "a task that the memory monitor kills ran again without end", "cluster/test_shrinking.py::test_a_shard_that_always_ends_its_worker_is_a_failure_and_the_others_are_there"),
    Fault("ray", "where SIGINT is ignored nothing could be cancelled", "cluster/test_ignored_interrupts.py::test_a_run_in_the_background_of_a_script_can_be_ended"),
    Fault("ray", "waiting for a task that was done already never ended", "cluster/test_ports_contract.py::TestTasks"),
    # stores
    Fault("stores", "an object replaced in mid-scan was a mixture", "storage/test_promises.py::test_a_large_object_replaced_in_mid_scan_is_no_mixture"),
    Fault("stores", "a store that ignores conditions was believed in silence", "storage/test_promises.py::test_a_store_without_conditions_is_said_once"),
    Fault("stores", "two drivers held one lease", "test_runs.py::test_another_holder_is_seen_in_a_lease_of_the_same_number"),
    Fault("stores", "the checksum of a whole object was held against a range", "storage/test_promises.py::test_a_range_is_not_held_against_the_checksum_of_the_whole"),
    Fault("stores", "a secret in a URI was printed", "storage/test_promises.py::test_a_secret_in_a_uri_is_never_printed"),
    Fault("stores", "what is nearly a URI had no hint", "storage/test_promises.py::test_what_is_nearly_a_uri_gets_its_hint"),
    Fault("stores", "a full disk was taken for a killed process", "endurance/test_goes_on.py::test_a_disk_that_is_full_ends_the_run_and_is_said"),
    # odd shapes
    Fault("shapes", "a CSV of many columns took time by their square", "corpus/test_csv.py::test_wide_records_are_read_in_work_that_grows_with_their_columns"),
    Fault("shapes", "a quote that never closes took the rest of the file", "corpus/test_csv.py::test_a_quote_that_never_closes_costs_one_record"),
    Fault("shapes", "a line without an end was read whole", "corpus/test_lines.py::test_a_line_beyond_the_limit_is_a_reason"),
    # messages
    Fault("messages", "runs were listed by name", "test_runs.py::test_runs_are_listed_by_when_they_were_made"),
    Fault("messages", "forget without a terminal ended without a word", "test_runs.py::test_forget_without_a_terminal_says_what_to_do"),
    Fault("messages", "a program's failure was printed twice", "audit/test_running.py::test_a_program_on_data_of_another_shape_stops_and_says_what_changed"),
    Fault("messages", "a program without its modules started, and then said so twice", "audit/test_running.py::test_a_module_that_a_program_imports_and_that_is_missing_is_said_before_it_starts"),
    Fault("messages", "the findings of a job could not be shown by number", "audit/test_running.py::test_a_finding_of_a_job_is_shown_by_its_number"),
    Fault("messages", "the README's job had no manifest", "audit/test_manifests.py::test_the_job_of_the_readme_has_every_form"),
    Fault("messages", "the hint after Ctrl-C left out the directory", "acceptance/test_interrupt.py::test_an_interrupted_run_ends_cleanly"),
    Fault("messages", "an answer was a wall of JSON in a REPL", "test_runs.py::test_an_answer_is_short_in_a_repl"),
    Fault("messages", "a wrong setting was told in another library's words", "test_runs.py::test_a_wrong_setting_has_our_words"),
    Fault("messages", "a condition as text was taken letter by letter", "test_runs.py::test_a_condition_as_text_is_said_whole"),
)
# fmt: on
