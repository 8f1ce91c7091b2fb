stet_unit_test(http_rules stet_runtime stet_proto)
stet_unit_test(workers stet_runtime stet_proto)
stet_unit_test(jobs_flow stet_runtime stet_proto)
stet_unit_test(jobs_rules stet_runtime stet_proto)
stet_unit_test(jobs_model stet_runtime stet_proto)
stet_unit_test(jobs_look stet_runtime stet_proto)

# The core with a store in memory, an edge that remembers and a stand-in for the job engine.
add_library(runtime_rig STATIC runtime_rig.c runtime_engine_double.c)
target_link_libraries(runtime_rig PUBLIC stet_runtime stet_store stet_proto PkgConfig::CMOCKA)
stet_unit_test(runtime_core runtime_rig)
stet_unit_test(runtime_channels runtime_rig)
stet_unit_test(runtime_faults runtime_rig)
stet_unit_test(runtime_fairness runtime_rig)
